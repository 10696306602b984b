"""
What a caller and a runner of calls tell each other, over whatever carries it: one vocabulary of AMP commands.

Data flow::

    caller                                                                        runner
    Caller.post -> Outgoing: window, boxes ==== Run ====> Splitter -> Runner: begins, at most so many at once
    Caller.cancel, recall, pull, close ----- a box each ---------------> Runner: Deferreds, RunnerStreams
    onRecords <- Splitter <==== Outcome ==== boxes, window: Outgoing <- Runner: what has become of the calls
              ---------------- Credit, either way: for bytes that have come ----------------

L{asynqueue.protocol.records} tells how calls and outcomes look as bytes, L{asynqueue.protocol.lanes} how they are cut
into boxes, L{asynqueue.protocol.commands} which boxes there are. What a call or a result is pickled with, or whether
it is pickled at all, is for those to say who make the ends.

Importing this package loads nothing: a child process without a reactor needs its records, and nothing else of it.
"""
