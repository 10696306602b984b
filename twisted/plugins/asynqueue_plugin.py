"""
What Twisted finds of asynqueue: the endpoints that C{aqtls:} stands for in descriptions of endpoints.
"""

from asynqueue.wire.parsers import TLSClientParser, TLSServerParser

asynqueueTLSServer = TLSServerParser()
asynqueueTLSClient = TLSClientParser()
