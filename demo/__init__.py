"""
The demonstration of asynqueue: a survey of the Python standard library, made by several workers.

C{python -m demo} finds the Python sources of the standard library of the interpreter that runs it, and has every file
read, parsed, tokenised and measured by one call of a L{TaskQueue <asynqueue.TaskQueue>}: a generator, whose rows
stream back through a consumer. It then prints what the survey found, what each worker did, and how long the same work
takes one file after the other.

The parts, from the work itself to the terminal:

  - L{demo.complexity}, L{demo.measure} and L{demo.summary} are the functions that the workers run: plain blocking code
    that knows nothing of queues
  - L{demo.rows} has what they yield, and the consumer that takes it
  - L{demo.sources} finds the files
  - L{demo.survey} is the part to read first: it submits the calls, collects what they return and ends early when asked;
    L{demo.tally} counts for it who did what
  - L{demo.baseline} does the same work one by one
  - L{demo.workers} makes the workers that the C{--workers} option names
  - L{demo.program} puts these together, with L{demo.interrupts} for Ctrl-C and L{demo.heartbeat} to watch the reactor
  - L{demo.display} and L{demo.report} show it, with rich
"""
