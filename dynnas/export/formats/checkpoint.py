"""Weights and the network they belong to: the form to train on from, batch norm not folded."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from dynnas.export.formats.format import ANY_BATCH, Artifact, Format, Predict, predict_with
from dynnas.ops import Network
from dynnas.runtime import MaskedNetwork
from dynnas.space.network_json import config_from_dict, config_to_dict


def load_checkpoint(folder: Path) -> Network:
    """The network of an exported checkpoint, on the CPU in eval mode; nothing in it is unpickled as code."""
    network = Network(config_from_dict(json.loads((folder / "network.json").read_text())))
    network.load_state_dict(torch.load(folder / "weights.pt", map_location="cpu", weights_only=True))
    return network.eval()


def _write(network: Network, folder: Path) -> None:
    (folder / "network.json").write_text(json.dumps(config_to_dict(network.config), indent=2) + "\n")
    torch.save(network.state_dict(), folder / "weights.pt")


def _load(path: Path) -> Predict:
    return predict_with(MaskedNetwork(load_checkpoint(path.parent)))


CHECKPOINT = Format(
    write=_write,
    load=_load,
    artifacts=(Artifact("weights.pt", None, ANY_BATCH, 'dynnas.export.load_checkpoint(Path("."))(image)'),),
)
