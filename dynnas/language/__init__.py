"""Space files: YAML text to a `Space`, or all of its problems at once."""
