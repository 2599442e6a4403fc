"""Algorithms of trainings, one a file: see `dynnas.training.algorithm`."""
