"""ExecuTorch programs for phones and small boards, by XNNPACK where the network does not branch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dynnas.errors import require
from dynnas.export.formats.format import ONE_IMAGE, Format, ModelFile, register_format

if TYPE_CHECKING:
    import numpy as np

    from dynnas.export.formats.format import Outputs, Predict
    from dynnas.runtimes.cascade import Finished


@register_format
class ExecuTorch(Format):
    """A program for one image, which has no place for metadata."""

    name = "executorch"
    models: ClassVar = (
        ModelFile(
            "model.pte",
            1,
            ONE_IMAGE,
            'program = executorch.runtime.Runtime.get().load_program("model.pte"); '
            'program.load_method("forward").execute([image])',
        ),
    )
    example: ClassVar = (
        "from executorch.runtime import Runtime",
        'program = Runtime.get().load_program("model.pte")  # keep it: it owns the memory of its methods',
        'outputs = program.load_method("forward").execute([image])',
    )

    def write(self, network: Finished, folder: Path, metadata: Mapping[str, str]) -> None:
        """Lower the exported program."""
        import torch

        from dynnas.runtimes.torch.export import to_pt2

        exir = require("executorch.exir", "executorch")
        partition = require("executorch.backends.xnnpack.partition.xnnpack_partitioner", "executorch")
        # XNNPACK takes no conditions; the portable kernels do.
        partitioners = [] if network.config.exits else [partition.XnnpackPartitioner()]
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):  # it draws random numbers
            warnings.simplefilter("ignore")
            edge = exir.to_edge_transform_and_lower(to_pt2(network), partitioner=partitioners)
            (folder / "model.pte").write_bytes(edge.to_executorch().buffer)

    def load(self, path: Path) -> Predict:
        """Load the program, and return its only method."""
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says of itself that it is experimental
            runtime = require("executorch.runtime", "executorch").Runtime.get()
        program = runtime.load_program(path.read_bytes())

        def predict(images: np.ndarray) -> Outputs:
            # The program owns the memory that its method reads, so it is the program that is kept.
            logits, *exits = program.load_method("forward").execute([torch.from_numpy(images)])
            return logits.numpy().copy(), exits[0].numpy().copy() if exits else None

        return predict
