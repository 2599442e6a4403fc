"""The results of commands that follow a search, as a study keeps them in its folder."""
