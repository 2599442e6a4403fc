"""Heads that read a backbone's maps: one file each."""
