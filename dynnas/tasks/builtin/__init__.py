"""The tasks that come with dynnas; a module each, which registers itself."""
