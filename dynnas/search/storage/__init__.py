"""The storage of studies."""
