"""Cascades: chains of the networks of a front, sought, scored and timed."""
