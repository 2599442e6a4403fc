"""ExecuTorch programs, for phones and small boards; by XNNPACK where the network does not branch."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch

from dynnas.errors import require
from dynnas.export.formats.format import ONE_IMAGE, Artifact, Format, Outputs, Predict
from dynnas.runtimes.cascade import Finished
from dynnas.runtimes.torch.export import to_pt2


def _write(network: Finished, folder: Path) -> None:
    exir = require("executorch.exir", "executorch")
    partition = require("executorch.backends.xnnpack.partition.xnnpack_partitioner", "executorch")
    # XNNPACK takes no conditions; the portable kernels do.
    partitioners = [] if network.config.exits else [partition.XnnpackPartitioner()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        edge = exir.to_edge_transform_and_lower(to_pt2(network), partitioner=partitioners)
        (folder / "model.pte").write_bytes(edge.to_executorch().buffer)


def _load(path: Path) -> Predict:
    runtime = require("executorch.runtime", "executorch").Runtime.get()
    program = runtime.load_program(path.read_bytes())

    def predict(images: np.ndarray) -> Outputs:
        # The program owns the memory that its method reads, so it is the program that is kept.
        logits, *exits = program.load_method("forward").execute([torch.from_numpy(images)])
        return logits.numpy().copy(), exits[0].numpy().copy() if exits else None

    return predict


EXECUTORCH = Format(
    write=_write,
    load=_load,
    artifacts=(
        Artifact(
            "model.pte",
            1,
            ONE_IMAGE,
            'program = executorch.runtime.Runtime.get().load_program("model.pte"); '
            'program.load_method("forward").execute([image])',
        ),
    ),
    example=(
        "from executorch.runtime import Runtime",
        'program = Runtime.get().load_program("model.pte")  # keep it: it owns the memory of its methods',
        'outputs = program.load_method("forward").execute([image])',
    ),
)
