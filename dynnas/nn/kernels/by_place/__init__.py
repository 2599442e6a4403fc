"""Kernel ops that compute with something else at each place of an image, one per file."""
