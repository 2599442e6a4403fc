"""ONNX graphs, and ONNX Runtime."""
