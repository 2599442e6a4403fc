"""LiteRT, the successor of TensorFlow Lite: its models from ONNX graphs, and sessions that run them."""
