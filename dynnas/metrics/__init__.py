"""Measurements of a network: size, score, latency, energy and memory."""
