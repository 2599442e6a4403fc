"""Weights and the network they belong to: the form to train on from, batch norm not folded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from dynnas.errors import ExportError
from dynnas.export.formats.format import ANY_BATCH, Artifact, Format, Predict, predict_with
from dynnas.nn.config.network_json import config_from_dict, config_to_dict
from dynnas.nn.networks.network import Network
from dynnas.runtimes.branching import MaskedNetwork


def load_checkpoint(folder: Path) -> Network:
    """The network of an exported checkpoint, on the CPU in eval mode; nothing in it is unpickled as code.

    Raises:
        ExportError: a file is missing or damaged.
    """

    def read(path: Path) -> dict[str, Tensor]:
        return torch.load(path, map_location="cpu", weights_only=True)

    return build_network(folder / "network.json", folder / "weights.pt", read)


def build_network(description: Path, weights: Path, read: Callable[[Path], Mapping[str, Tensor]]) -> Network:
    """The network that a file describes, with the tensors that `read` finds in `weights`, in eval mode.

    Raises:
        ExportError: a file is missing or damaged.
    """
    try:
        network = Network(config_from_dict(json.loads(description.read_text())))
        network.load_state_dict(read(weights))
    except Exception as error:  # readers of tensors raise what they like on damaged files
        raise ExportError(
            f"{weights}: not a network that export wrote, or damaged ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no reason given'}); export it again"
        ) from error
    return network.eval()


def _write(network: Network, folder: Path) -> None:
    (folder / "network.json").write_text(json.dumps(config_to_dict(network.config), indent=2) + "\n")
    torch.save(network.state_dict(), folder / "weights.pt")


def _load(path: Path) -> Predict:
    return predict_with(MaskedNetwork(load_checkpoint(path.parent)))


CHECKPOINT = Format(
    write=_write,
    load=_load,
    cascades=False,
    artifacts=(Artifact("weights.pt", None, ANY_BATCH, 'dynnas.export.load_checkpoint(Path("."))(image)'),),
    example=(
        "from pathlib import Path",
        "from dynnas.export import load_checkpoint",
        'logits = load_checkpoint(Path("."))(image)',
    ),
)
