"""Algorithms in which networks learn from the answers of others."""
