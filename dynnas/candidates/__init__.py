"""Candidates: what one architecture becomes on its way to a number, each part made once."""
