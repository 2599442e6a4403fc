"""Early exits, by which an image leaves before the end of a network."""
