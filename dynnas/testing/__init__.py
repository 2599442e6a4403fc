"""Conformance suites for registered operators, spaces, measurements and runtimes."""

from dynnas.testing.spaces import SpaceCheck, check_space

__all__ = ["SpaceCheck", "check_space"]
