"""The samplers that have names; the modules here are imported wherever names are listed, and load nothing."""
