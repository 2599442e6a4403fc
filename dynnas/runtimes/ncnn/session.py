"""NCNN on a CPU: part after part, until an exit is sure. It needs numpy and ncnn alone."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dynnas.errors import TargetError, require

PARAM, WEIGHTS = "part{}.param", "part{}.bin"
"""The names of the files of a part, by its number."""

CRITERIA = ("confidence", "entropy")
"""Criteria of exits that a session knows, which needs no torch; of others NCNN lacks the operators."""

EXITS = "exits"
"""The metadata that holds threshold and criterion of every exit, as JSON."""


class NcnnRunner:
    """A network in parts, which runs images one by one and no part behind the exit that they take.

    Args:
        files: of the parts, by `PARAM` and `WEIGHTS`.
        exits: threshold and criterion of each exit, as JSON.
        threads: of each operator.

    Raises:
        MissingExtraError: ncnn is not installed.
        TargetError: it cannot load a part.
    """

    def __init__(self, files: Mapping[str, bytes], exits: str, threads: int = 1) -> None:
        self._ncnn = require("ncnn", "ncnn")
        self._exits: list[tuple[float, str]] = [(float(sure), str(by)) for sure, by in json.loads(exits)]
        self._parts = [self._load(files, number, threads) for number in range(len(self._exits) + 1)]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return self.outputs(image)["logits"]

    def outputs(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs (B, ...), and the exits (B,) int64 of a network that has some."""
        logits, exits = zip(*map(self._run, images), strict=True)
        found = {"logits": np.stack(logits)}
        return {**found, "exit": np.array(exits)} if self._exits else found

    def _run(self, image: np.ndarray) -> tuple[np.ndarray, int]:
        # NCNN pads every channel: it copies the image into that form.
        x = self._ncnn.Mat(np.ascontiguousarray(image)).clone()
        for number, (threshold, criterion) in enumerate(self._exits):
            found = self._extract(number, x, ("out0", "out1"))
            output = np.array(found[0])
            if _sureness(output, criterion) >= threshold:
                return output, number
            x = found[1]
        return np.array(self._extract(len(self._exits), x, ("out0",))[0]), len(self._exits)

    def _extract(self, number: int, x: Any, names: tuple[str, ...]) -> list[Any]:
        extractor = self._parts[number].create_extractor()
        extractor.input("in0", x)
        found = []
        for name in names:
            code, value = extractor.extract(name)
            if code:
                raise TargetError(f"target: NCNN failed with the code {code}; use another runtime")
            found.append(value)
        return found

    def _load(self, files: Mapping[str, bytes], number: int, threads: int) -> Any:
        net = self._ncnn.Net()
        options = net.opt
        options.num_threads = threads
        for kind in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):  # float32 throughout
            setattr(options, f"use_{kind}", False)
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder, name.format(number)) for name in (PARAM, WEIGHTS)]
            for path in paths:
                path.write_bytes(files[path.name])
            if net.load_param(str(paths[0])) or net.load_model(str(paths[1])):
                raise TargetError(
                    "target: NCNN cannot load this network; use another runtime, or another version of ncnn"
                )
        return net


def _sureness(output: np.ndarray, criterion: str) -> float:
    """Return the confidence of an exit, as `Classification.confidence` does."""
    shifted = output - output.max()
    shares = np.exp(shifted) / np.exp(shifted).sum()
    if criterion == "entropy":
        entropy = -float((shares * (shifted - np.log(np.exp(shifted).sum()))).sum())
        return max(0.0, 1 - entropy / math.log(len(output)))
    return float(shares.max())
