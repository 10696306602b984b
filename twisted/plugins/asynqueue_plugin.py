"""
What Twisted finds of asynqueue: the endpoints that C{aqtls:} and C{aqtoken:} stand for in descriptions of endpoints.
"""

from asynqueue.wire.parsers import ClientParser, ServerParser

certifiedServers = ServerParser("aqtls")
certifiedClients = ClientParser("aqtls")
tokenServers = ServerParser("aqtoken")
tokenClients = ClientParser("aqtoken")
