"""The supernet: one set of shared weights, sliced for every architecture of a space."""
