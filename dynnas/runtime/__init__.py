"""From a plain network to what runs and ships on a target; one file for each runtime."""

from dynnas.runtime.batches import BatchRunner, Execution, build_batch_runner
from dynnas.runtime.branching import MaskedNetwork
from dynnas.runtime.cascade import Cascade, Finished, chain
from dynnas.runtime.folding import fold_batchnorm
from dynnas.runtime.onnx_graph import to_onnx, to_onnx_batch, to_packed_onnx
from dynnas.runtime.runner import RUNTIMES, build_runner, resolve_runtime
from dynnas.runtime.runtime import Runner

__all__ = [
    "RUNTIMES",
    "BatchRunner",
    "Cascade",
    "Execution",
    "Finished",
    "MaskedNetwork",
    "Runner",
    "build_batch_runner",
    "build_runner",
    "chain",
    "fold_batchnorm",
    "resolve_runtime",
    "to_onnx",
    "to_onnx_batch",
    "to_packed_onnx",
]
