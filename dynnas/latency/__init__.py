"""Latency, measured in rounds against fixed anchors; the timing core needs numpy alone."""
