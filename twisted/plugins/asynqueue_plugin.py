"""
What Twisted finds of asynqueue: the endpoints that C{aqtls:} and C{aqtoken:} stand for in descriptions of endpoints,
and the service that C{twist asynqueue} runs.
"""

from twisted.application.service import ServiceMaker

from asynqueue.wire.parsers import ClientParser, ServerParser

certifiedServers = ServerParser("aqtls")
certifiedClients = ClientParser("aqtls")
tokenServers = ServerParser("aqtoken")
tokenClients = ClientParser("aqtoken")

server = ServiceMaker("asynqueue", "asynqueue.tap", "Runs calls that come over connections.", "asynqueue")
