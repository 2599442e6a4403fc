"""The evaluators: from a supernet, and from a table."""
