"""Graphs in int8, part by part between branches."""
