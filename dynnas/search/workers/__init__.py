"""Pools of workers that evaluate candidates."""
