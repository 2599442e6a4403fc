"""Layers on sequences that read no more of them than it takes."""
