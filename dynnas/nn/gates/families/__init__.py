"""Families of gates, one per file; `dynnas.nn.gates.gate` says what a file holds."""
