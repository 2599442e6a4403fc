"""Running the command line inside the test's process."""

import io
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

import pytest

from dynnas.cli.app import main


class Ran(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="session")
def dynnas() -> Callable[..., Ran]:
    """Run one command to its end; standard output and error are no terminals."""

    def run(*words: str) -> Ran:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit, match=r"^\d+$") as exit:
            main(words)
        return Ran(int(exit.value.code or 0), out.getvalue(), err.getvalue())

    return run
