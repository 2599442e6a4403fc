"""Rules of single values, as the command line's flags use them too."""

import math
import re

import pytest

from dynnas.space.rule import Rule


@pytest.mark.parametrize(
    ("rule", "value", "accepted"),
    [
        (Rule(int, minimum=1), 3, 3),
        (Rule(int), 3.0, 3),
        (Rule(float), 3, 3.0),
        (Rule(float, minimum=0, maximum=1), 1, 1.0),
        (Rule(int, odd=True), -3, -3),
        (Rule(str), "x", "x"),
        (Rule(bool), False, False),
    ],
)
def test_legal_values_take_the_rules_own_type(rule: Rule, value: object, accepted: object) -> None:
    assert rule.accept(value) == accepted
    assert type(rule.accept(value)) is rule.kind


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        (Rule(int, minimum=1), 0),
        (Rule(int, maximum=9), 10),
        (Rule(int), 2.5),
        (Rule(int), True),
        (Rule(int), "3"),
        (Rule(int, odd=True), 4),
        (Rule(float), math.nan),
        (Rule(float), math.inf),
        (Rule(float), 10**400),
        (Rule(int), None),
        (Rule(str), ""),
        (Rule(str), 3),
        (Rule(str, choices=("a", "b")), "c"),
        (Rule(bool), 1),
    ],
)
def test_illegal_values_are_refused(rule: Rule, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(str(value))}$"):
        rule.accept(value)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Rule(int, minimum=1), "a whole number of at least 1"),
        (Rule(float, minimum=0, maximum=0.5, optional=True), "a number from 0 to 0.5, or null"),
        (Rule(int, minimum=1, maximum=31, odd=True), "an odd whole number from 1 to 31"),
        (Rule(str, choices=("a", "b")), "a, b"),
        (Rule(bool), "true or false"),
    ],
)
def test_rules_say_what_is_allowed(rule: Rule, words: str) -> None:
    assert str(rule) == words
