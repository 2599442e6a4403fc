"""The operators of ONNX graphs in those of LiteRT, one module for each kind.

Import `dynnas.runtimes.litert.operators.table` only where onnx and ai_edge_litert are installed.
"""
