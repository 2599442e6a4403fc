"""Trainings in which networks grow."""
