"""Running the command line inside the test's process."""

from collections.abc import Callable

import pytest
from support.cli import Ran, command


@pytest.fixture(scope="session")
def dynnas() -> Callable[..., Ran]:
    """Run one command to its end; standard output and error are no terminals."""
    return command
