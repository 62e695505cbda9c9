"""The command line as tests run it."""

import pytest

from cosmeans.cli import run


@pytest.fixture
def out(capsys):
    """Run a command here; gives exit code, stdout, stderr."""

    def call(line):
        code = run(line.split())
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call
