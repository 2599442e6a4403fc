"""Optuna samplers for conditional design spaces."""
