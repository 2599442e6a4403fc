"""Batches in ONNX Runtime: one graph that computes everything, or a session for every segment."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from dynnas.nn.context import Context
from dynnas.nn.dynamic_conv.mode import ConvMode
from dynnas.nn.exits.exits import answer, is_confident_at
from dynnas.nn.networks.network import Network, Segment
from dynnas.runtimes.folding import fold_batchnorm
from dynnas.runtimes.onnx.graph import to_onnx_batch
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.runtimes.onnx.trace import trace
from dynnas.runtimes.plain import blank_images


class MaskedOnnxRunner:
    """The graph that ships for batches: every exit is computed for every image.

    Args:
        network: calibrated. threads: of each operator.
    """

    def __init__(self, network: Network, threads: int) -> None:
        self._session = OnnxRunner(to_onnx_batch(network).SerializeToString(), threads)

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outputs = self._session.outputs(images)
        exits = outputs.get("exit")
        return outputs["logits"], np.zeros(len(images), np.int64) if exits is None else exits


class CompactedOnnxRunner:
    """A session for every segment; between two of them, images that leave are taken out of the batch.

    Args:
        network: calibrated. threads: of each operator.
    """

    def __init__(self, network: Network, threads: int) -> None:
        folded = fold_batchnorm(network, Context(ConvMode("conv_first"))).cpu()  # as in `to_onnx_batch`
        self._classes = network.config.classes
        self._sessions = []
        x = blank_images(network.config, 2)
        for segment in folded.segments():
            inner = segment.exit is not None
            outputs = ["logits", "leaves", "features"] if inner else ["logits"]
            part = trace(_Part(segment), x, ["image"], outputs, any_batch=True)
            self._sessions.append(OnnxRunner(part.SerializeToString(), threads))
            with torch.no_grad():
                x = segment.body(x)

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits = np.empty((len(images), self._classes), np.float32)
        exits = np.empty(len(images), np.int64)
        rows = np.arange(len(images))
        for index, session in enumerate(self._sessions):
            outputs = session.outputs(images)
            leaves = outputs.get("leaves")
            if leaves is None or leaves.all():
                logits[rows], exits[rows] = outputs["logits"], index
                break
            images = outputs["features"]
            if leaves.any():
                logits[rows[leaves]], exits[rows[leaves]] = outputs["logits"][leaves], index
                rows, images = rows[~leaves], images[~leaves]
        return logits, exits


class _Part(nn.Module):
    """A segment on a batch; an inner one also returns which images leave (B,), and what goes on."""

    def __init__(self, segment: Segment) -> None:
        super().__init__()
        self.body, self.classifier, self.exit = segment.body, segment.classifier, segment.exit

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        features = self.body(image)
        output = self.classifier(features)
        if self.exit is None:
            return output
        return answer(output, self.exit.criterion), is_confident_at(self.exit, output), features
