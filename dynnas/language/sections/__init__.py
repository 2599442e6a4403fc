"""The sections of a space file that describe networks, each by a reader of its own."""
