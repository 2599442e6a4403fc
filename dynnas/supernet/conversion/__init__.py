"""Trained networks as design spaces: which channels belong together, and members made of slices."""
