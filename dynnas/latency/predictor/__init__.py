"""A predictor of latency from the layers of a network."""
