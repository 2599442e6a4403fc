"""Batch-norm statistics of extracted networks."""
