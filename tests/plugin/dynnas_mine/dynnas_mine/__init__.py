"""One of everything that can be added to dynnas, a file each."""
