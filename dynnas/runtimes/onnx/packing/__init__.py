"""Rewrites of graphs to ONNX Runtime's packed channel layout."""
