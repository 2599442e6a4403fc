"""The samplers that have names; a module here is imported wherever names are listed, and loads nothing."""
