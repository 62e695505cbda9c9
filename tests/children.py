"""The command line in a child of a fork: a process with streams and signals of its own, that is there at once.

A process that begins with Python takes seconds to load what is loaded here before the fork. What such a beginning does
is tested by the few that have one.
"""

import os
import signal
import sys
import tempfile
from contextlib import suppress

from cosmeans import __main__
from cosmeans.backends import cpu
from cosmeans.cli import fitting, labelling, stream, tables

LOADED = cpu, fitting, labelling, stream, tables  # what commands import when they run


class Child:
    """`cosmeans LINE` in a child, in the working folder of this process.

    stdin   bytes that it reads; stdout: a path to write to instead of keeping what is written
    stderr  a stream of what it tells, line by line, until `ended` takes the rest
    """

    def __init__(self, line, stdin=b"", stdout=None):
        self._given, self._told = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115
        self._given.write(stdin)
        self._given.seek(0)
        reading, writing = os.pipe()
        self.number = os.fork()
        if self.number == 0:
            os.close(reading)
            opened = os.open(stdout, os.O_WRONLY) if stdout else self._told.fileno()
            _become(line.split(), (self._given.fileno(), opened, writing))
        os.close(writing)
        self.stderr = os.fdopen(reading, "r", encoding="utf-8")

    def interrupt(self):
        os.kill(self.number, signal.SIGINT)

    def ended(self):
        """(exit code, or minus its signal; stdout, bytes; the rest of stderr), once it ends."""
        with self.stderr, self._given, self._told:
            rest = self.stderr.read()
            code = os.waitstatus_to_exitcode(os.waitpid(self.number, 0)[1])
            self._told.seek(0)
            return code, self._told.read(), rest


def _become(arguments, streams):
    """Never comes back."""
    code = 99
    try:
        for descriptor, stream in enumerate(streams):
            os.dup2(stream, descriptor)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.stdin, sys.stdout, sys.stderr = (open(n, "w" if n else "r") for n in range(3))  # noqa: SIM115
        sys.argv = ["cosmeans", *arguments]
        try:
            __main__.main()
        except SystemExit as end:
            code = end.code or 0
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        with suppress(OSError, ValueError):
            sys.stderr.flush()
    finally:
        os._exit(code)


def ran(line, stdin=b"", stdout=None):
    """(exit code, stdout, stderr) of `cosmeans LINE`."""
    return Child(line, stdin, stdout).ended()
