"""Kernel ops, one per file; `dynnas.nn.kernels.kernel` says what a file holds."""
