"""`dynnas.search`: its documented example, and the ways to reach it."""

import doctest

import dynnas
import dynnas.search
from dynnas.search import api


def test_documented_example() -> None:
    found = doctest.testmod(api)
    assert found.attempted > 5
    assert found.failed == 0


def test_package_is_the_function_too() -> None:
    assert dynnas.search.__call__ is api.search
