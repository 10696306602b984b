"""
Many calls of one function, over the items of an iterable: what is behind C{TaskQueue.map}.

Importing this package loads nothing else, for a child process imports what is in L{asynqueue.mapping.batch}.
"""
