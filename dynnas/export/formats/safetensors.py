"""The format to share: weights that hold nothing but tensors, and the network they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dynnas.errors import require
from dynnas.export.formats.checkpoint import (
    build_network,
    own_lines,
    own_module,
    predict_like,
    predict_masked,
    tensors_of,
    write_description,
)
from dynnas.export.formats.format import ANY_BATCH, Format, ModelFile, register_format

if TYPE_CHECKING:
    from dynnas.export.formats.format import Predict
    from dynnas.nn.networks.network import Network
    from dynnas.runtimes.plain import PlainNetwork

WEIGHTS, NETWORK = "model.safetensors", "arch.json"


def load_safetensors(folder: Path) -> Network:
    """Load the network of an export in this format, on the CPU in eval mode.

    Raises:
        ExportError: a file is missing or damaged.
        MissingExtraError: safetensors is not installed.
    """
    library = require("safetensors.torch", "safetensors")
    return build_network(folder / NETWORK, folder / WEIGHTS, lambda path: library.load_file(path))


@register_format
class Safetensors(Format):
    """The tensors, with `metadata` in their header, and the config as JSON."""

    name = "safetensors"
    cascades = False
    models: ClassVar = (
        ModelFile(WEIGHTS, None, ANY_BATCH, 'dynnas.export.load_safetensors(Path("."))(image)'),
    )
    example: ClassVar = (
        "from pathlib import Path",
        "from dynnas.export import load_safetensors",
        'logits = load_safetensors(Path("."))(image)',
    )

    def write(self, network: Network | PlainNetwork, folder: Path, metadata: Mapping[str, str]) -> None:
        """Write the two files."""
        library = require("safetensors.torch", "safetensors")
        write_description(network, folder / NETWORK)
        tensors = {name: tensor.contiguous() for name, tensor in tensors_of(network).items()}
        library.save_file(tensors, folder / WEIGHTS, metadata={"format": "pt", **metadata})

    def load(self, path: Path) -> Predict:
        """Load the network, as `load_safetensors` does."""
        return predict_masked(load_safetensors(path.parent))

    def load_like(self, path: Path, network: Network | PlainNetwork) -> Predict:
        """Load the network; one of one's own class as a copy of `network` with the tensors of the file."""
        if own_module(network) is None:
            return self.load(path)
        return predict_like(network, require("safetensors.torch", "safetensors").load_file(path))

    def lines(self, network: Network | PlainNetwork) -> tuple[str, ...]:
        """Return the lines of Python that load `network`."""
        if own_module(network) is None:
            return self.example
        return own_lines(network, f'safetensors.torch.load_file("{WEIGHTS}")')
