"""Decision trees as heads of networks."""
