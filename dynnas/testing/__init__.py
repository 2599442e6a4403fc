"""Conformance suites: what every registered op must hold to."""

from dynnas.testing.spaces import SpaceCheck, check_space

__all__ = ["SpaceCheck", "check_space"]
