"""Coupled channels: one run of a network tells what indices of its tensors are one channel."""
