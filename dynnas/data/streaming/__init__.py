"""Images that are read from disk when they are needed, by processes beside this one."""
