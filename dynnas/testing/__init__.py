"""Conformance suites: what every registered op must hold to."""
