"""Example files, and random spaces for property tests."""

from pathlib import Path

import pytest

from dynnas.language.parser import load_space
from dynnas.space.space import Space

EXAMPLES = Path(__file__).parents[1] / "language" / "examples"


@pytest.fixture(params=sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def example(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture(scope="session")
def everything() -> Space:
    return load_space(EXAMPLES / "everything.yaml")


@pytest.fixture(scope="session")
def choices() -> Space:
    return load_space(EXAMPLES / "choices.yaml")
