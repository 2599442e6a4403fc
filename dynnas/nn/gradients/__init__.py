"""Gradients that are faster on a processor than torch's own, and the context that puts them in."""
