"""Pictures: fronts, progress, distributions, and networks layer by layer."""
