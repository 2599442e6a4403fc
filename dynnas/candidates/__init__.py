"""Candidates: each architecture on its way to a number, with every part made once."""
