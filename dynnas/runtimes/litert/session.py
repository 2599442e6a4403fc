"""LiteRT on a CPU, by XNNPACK wherever that has an operator. It needs numpy and ai_edge_litert alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from dynnas.errors import TargetError, require


class LitertRunner:
    """An interpreter of a model for one image, which runs images one by one.

    Args:
        model: the content of a .tflite file with input `image` and the outputs `logits` and maybe `exit`.
        threads: of each operator.

    Raises:
        MissingExtraError: ai_edge_litert is not installed.
        TargetError: it cannot load the model.
    """

    def __init__(self, model: bytes, threads: int = 1) -> None:
        litert = require("ai_edge_litert.interpreter", "litert")
        try:
            self._interpreter = litert.Interpreter(model_content=model, num_threads=threads)
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            said = " ".join(str(error).split())
            raise TargetError(
                f"target: LiteRT cannot load this network ({said[:300]}); use another runtime, or another "
                "version of ai-edge-litert"
            ) from error
        (self._image,) = (each["index"] for each in self._interpreter.get_input_details())
        self._outputs = {each["name"]: each["index"] for each in self._interpreter.get_output_details()}

    def __call__(self, image: np.ndarray) -> np.ndarray:
        if len(image) > 1:
            return self.outputs(image)["logits"]
        self._interpreter.set_tensor(self._image, image)
        self._interpreter.invoke()
        logits: np.ndarray = self._interpreter.get_tensor(self._outputs["logits"])
        return logits

    def outputs(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs (B, ...), and the exits (B,) int64 of a network that has some."""
        found = [self._run(images[place : place + 1]) for place in range(len(images))]
        joined = {name: np.concatenate([each[name] for each in found]) for name in self._outputs}
        return joined | ({"exit": joined["exit"].astype(np.int64)} if "exit" in joined else {})

    def _run(self, image: np.ndarray) -> dict[str, Any]:
        interpreter = self._interpreter
        interpreter.set_tensor(self._image, image)
        interpreter.invoke()
        return {name: interpreter.get_tensor(tensor) for name, tensor in self._outputs.items()}
