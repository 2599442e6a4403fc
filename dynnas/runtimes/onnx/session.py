"""ONNX Runtime by one of its execution providers: a device needs no more to run an exported graph."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from dynnas.errors import TargetError, require
from dynnas.runtimes.onnx.placement import CPU, RECORDING, Placement, Provider, placement_of

PACKED_FOR = "dynnas.packed_for"
"""Key in a packed model's metadata: the layout of the processors that it is right on."""


class OnnxRunner:
    """A session on a fixed number of threads that runs one operator after another, as on a small device.

    Args:
        model: a serialised ONNX model with input `image` and first output `logits`.
        threads: of each operator.
        provider: an execution provider that is to run all that it can; None is the CPU's.

    Attributes:
        placement: the nodes that each provider runs; None without a `provider`.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        TargetError: the model is packed for other processors than this machine's, or the provider runs none
            of it.
    """

    def __init__(self, model: bytes, threads: int, provider: Provider | None = None) -> None:
        ort = require("onnxruntime", "onnx")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 4  # a graph that is packed for others is told once, by the exception
        self.placement: Placement | None = None
        if provider is None:
            self._session = ort.InferenceSession(model, options, providers=[CPU])
        else:
            self._open(ort, model, options, provider, threads)
        self._check_packing()

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return self._session.run(["logits"], {"image": image})[0]

    def outputs(
        self, images: np.ndarray, more: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """Return every output by its name; `more` are inputs beside the images."""
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, {"image": images, **(more or {})}), strict=True))

    def _open(self, ort: ModuleType, model: bytes, options: Any, provider: Provider, threads: int) -> None:
        """Open the session by `provider`, with the CPU for what it cannot run.

        Raises:
            TargetError: that is all of the graph, or the provider fails.
        """
        options.add_session_config_entry(RECORDING, "1")
        if provider.threads:  # it has a pool of its own, whose threads would compete with those of the CPU
            options.intra_op_num_threads = 1
        places = {provider.name: provider.options_for(model, threads)}
        places.setdefault(CPU, {})  # after the provider, which takes first
        try:
            self._session = ort.InferenceSession(model, options, providers=[*places.items()])
        except Exception as error:  # the runtime's own classes
            raise TargetError(
                f"target: {provider.word} cannot load this network ({str(error)[:300]}); use another runtime"
            ) from error
        self.placement = placement_of(self._session, provider.name)
        if self.placement.elsewhere == self.placement.total:
            raise TargetError(
                f"target: all {self.placement.total} nodes of this network would run on the CPU: "
                f"{provider.word} takes none of them here; use runtime onnxruntime, or see that the "
                "provider's device and libraries are there"
            )

    def _check_packing(self) -> None:
        """Run a packed model once: the check inside it fails on other processors."""
        packed_for = self._session.get_modelmeta().custom_metadata_map.get(PACKED_FOR)
        if packed_for is None:
            return
        (image,) = self._session.get_inputs()
        try:
            self(np.zeros(image.shape, np.float32))
        except Exception as error:  # the runtime's own classes
            raise TargetError(
                f"this model is packed for processors with {packed_for}, and this one has others "
                f"({str(error)[:300]}); use the portable model.onnx, or export it again on this machine"
            ) from error
