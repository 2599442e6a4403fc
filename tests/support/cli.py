"""Running the command line inside the test's process: to start Python each time takes long."""

import io
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

import pytest

from dynnas.cli.app import main


class Ran(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str


def command(*words: str) -> Ran:
    """Run one command to its end; standard output and error are no terminals."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit, match=r"^\d+$") as exit:
        main(words)
    return Ran(int(exit.value.code or 0), out.getvalue(), err.getvalue())
