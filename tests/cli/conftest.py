"""Running the command line inside the test's process."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from dynnas.cli import main


class Ran(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str


@pytest.fixture
def dynnas(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run one command to its end."""

    def run(*words: str) -> Ran:
        with pytest.raises(SystemExit, match=r"^\d+$") as exit:
            main(words)
        return Ran(int(exit.value.code or 0), *capsys.readouterr())

    return run
