"""What is expected of architectures that were not tried: Gaussian processes and what they promise."""
