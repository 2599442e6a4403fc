"""Algorithms that say which networks of a supernet a step trains."""
