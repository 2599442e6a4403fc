"""Runtimes: they compile networks for a target, and run them."""
