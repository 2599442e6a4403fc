"""`dynnas.search`: its documented example, and the ways to reach it."""

import doctest

import dynnas
import dynnas.search
from dynnas.workflows import search as workflow


def test_documented_example() -> None:
    found = doctest.testmod(workflow)
    assert found.attempted > 5
    assert found.failed == 0


def test_package_is_the_function_too() -> None:
    assert callable(dynnas.search)
    assert dynnas.public("search") is workflow.search
