"""Timing on a device elsewhere; the serving side needs numpy and one runtime."""
