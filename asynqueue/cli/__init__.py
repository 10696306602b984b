"""
The command C{asynqueue}: its subcommands, each in a module of its own.

A subcommand's module has C{add_parser(subcommands)}, which adds its parser, with the default C{run}: a function of the
parsed arguments and of a L{asynqueue.cli.terminal.Terminal} that returns the exit code.
"""
