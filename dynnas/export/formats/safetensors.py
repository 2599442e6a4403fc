"""Weights that hold nothing but tensors, and the network they belong to: the form to share."""

from __future__ import annotations

import json
from pathlib import Path

from dynnas.errors import require
from dynnas.export.formats.checkpoint import build_network
from dynnas.export.formats.format import ANY_BATCH, Artifact, Format, Predict, predict_with
from dynnas.nn.config.network_json import config_to_dict
from dynnas.nn.networks.network import Network
from dynnas.runtimes.branching import MaskedNetwork

WEIGHTS, NETWORK = "model.safetensors", "arch.json"


def load_safetensors(folder: Path) -> Network:
    """The network of an export in this format, on the CPU in eval mode.

    Raises:
        ExportError: a file is missing or damaged.
        MissingExtraError: safetensors is not installed.
    """
    library = require("safetensors.torch", "safetensors")
    return build_network(folder / NETWORK, folder / WEIGHTS, lambda path: library.load_file(path))


def _write(network: Network, folder: Path) -> None:
    library = require("safetensors.torch", "safetensors")
    (folder / NETWORK).write_text(json.dumps(config_to_dict(network.config), indent=2) + "\n")
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    library.save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def _load(path: Path) -> Predict:
    return predict_with(MaskedNetwork(load_safetensors(path.parent)))


SAFETENSORS = Format(
    write=_write,
    load=_load,
    cascades=False,
    artifacts=(Artifact(WEIGHTS, None, ANY_BATCH, 'dynnas.export.load_safetensors(Path("."))(image)'),),
    example=(
        "from pathlib import Path",
        "from dynnas.export import load_safetensors",
        'logits = load_safetensors(Path("."))(image)',
    ),
)
