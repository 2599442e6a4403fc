"""Algorithms by which early exits learn."""
