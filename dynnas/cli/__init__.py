"""The command line: parsing and printing, no logic of its own."""

from dynnas.cli.app import main

__all__ = ["main"]
