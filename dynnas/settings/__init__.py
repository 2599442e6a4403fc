"""Settings of a study, by the sections of a space file."""
