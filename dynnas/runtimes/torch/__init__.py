"""Torch as a runtime."""
