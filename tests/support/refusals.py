"""What is said of a space file that is refused."""

from collections.abc import Callable

import pytest

from dynnas.language.parser import parse_space
from dynnas.language.problems import SpaceFileError


def problems_of(read: Callable[[], object]) -> list[str]:
    """The problems that reading the file `f` or `f.yaml` ends with, as text."""
    with pytest.raises(SpaceFileError, match=r"^f(\.yaml)?:") as caught:
        read()
    return [str(problem) for problem in caught.value.problems]


def problems_in(text: str, name: str = "f") -> list[str]:
    """The problems of a space file of that name."""
    return problems_of(lambda: parse_space(text, name))
