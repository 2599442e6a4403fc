"""Finished networks as folders that ship."""
