"""
The benchmarks: what this library costs, as ratios to a bare floor and to its peers.

Run them with C{make bench}, or C{python -m bench --only threads}. Each figure comes from a process of its own that
lives for that figure only; processes of those that are compared take turns, and a ratio is made of neighbours, so that
whatever else the machine does falls on both::

    __main__  the command line
    suites    what is compared, and with which goals
    rows      what a comparison is made of
    run       processes, taking turns
    figures   medians, spreads and ratios
    report    the table

    child     what makes a program of measurements
    loops     the loops over calls, the same for all that is measured
    readers   the loops over streams, likewise
    leavers   the ways to leave a stream
    watches   the collector's time, the turns of a reactor, resident memory

    floor     a process that measures the least code that does it, without a queue
    ours      one that measures this library
    streams   one that measures this library's streams
    peers     one that measures deferToThreadPool and ThreadPoolExecutor
    ancestor  one that measures AsynQueue 0.9.9, run by an interpreter that has that installed instead of this library

    processrows         what calls in child processes are compared with
    processes           a process that measures this library's process workers
    pipefloor           one that measures the least code that does it
    pools               one that measures other pools of processes
    ancestorprocesses   one that measures AsynQueue 0.9.9's process workers
    work                what the calls do
    leftovers           what ends processes that are left behind

No test asserts any of these figures.
"""
