"""A study on disk: its folder, its front and its results."""
