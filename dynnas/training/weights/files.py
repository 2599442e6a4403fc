"""A trained network on disk: its weights, and the config that they belong to."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import torch

from dynnas.errors import TrainingError
from dynnas.files import replacing
from dynnas.nn.config.network_json import config_from_dict, config_to_dict
from dynnas.nn.layers.digest import weights_digest
from dynnas.nn.networks.network import Network

FORMAT = 1

WEIGHTS = "weights.pt"


def save_network(network: Network, folder: Path) -> Path:
    """Write `network` into `folder`; a crash leaves the old file or the new one.

    Of a network of one's own class only the weights are written: its values are those of its architecture.
    """
    path = folder / WEIGHTS
    staged = isinstance(network, Network)
    content = {
        "dynnas_network": FORMAT,
        "config": json.dumps(config_to_dict(network.config) if staged else None),
        "weights": {name: value.cpu() for name, value in network.state_dict().items()},
    }
    with replacing(path) as file:
        torch.save(content, file)
    return path


def load_network(path: Path, digest: str, build: Callable[[], Network] | None = None) -> Network:
    """Return the network that `save_network` wrote, on the CPU in eval mode; nothing in it is run as code.

    Args:
        path: the file.
        digest: of its weights, as `weights_digest` gave it when they were written.
        build: makes a network of one's own class for the weights.

    Raises:
        TrainingError: it is missing, damaged, or holds other weights.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["dynnas_network"] != FORMAT:
            raise TrainingError(
                f"{path}: found format {content['dynnas_network']!r}, this dynnas reads {FORMAT}"
            )
        network = build() if build else Network(config_from_dict(json.loads(content["config"])))
        network.load_state_dict(content["weights"])
    except (
        RuntimeError,
        OSError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        pickle.UnpicklingError,
    ) as error:
        raise TrainingError(f"{path}: no readable network ({error}); delete it and train again") from error
    found = weights_digest(network)
    if found != digest:
        raise TrainingError(
            f"{path}: found weights {found}, the study says {digest}; delete it and train again"
        )
    return network.eval()
