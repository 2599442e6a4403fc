"""The supernet: one set of shared weights of which every architecture of a space is a slice."""
