"""Losses and schedules of gates and constraints."""
