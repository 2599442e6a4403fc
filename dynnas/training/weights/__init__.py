"""Weights that a training begins with, and the files that they come from."""
