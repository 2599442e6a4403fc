"""Surrogate models of metrics, and the acquisition function on them."""
