"""
A server of calls as a program of its own, however it is started: by C{asynqueue worker} or by C{twist asynqueue}.
"""
