"""Algorithms by which gates learn what an image may leave out."""
