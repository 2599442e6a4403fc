"""Networks for devices with torch: their config and weights as a document, built there from `dynnas.nn`.

torch is imported only when a network is written or loaded: a device with ONNX Runtime alone never gets here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from dynnas.latency.environment import Execution
from dynnas.latency.remote.document import DocumentError, read_document, write_document

if TYPE_CHECKING:
    from dynnas.nn.networks.network import Network


def write_network(network: Network) -> bytes:
    """`network`, on a CPU, as bytes for `load_network`."""
    from dynnas.space.config.network_json import config_to_dict

    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    return write_document({"config": config_to_dict(network.config)}, weights)


def read_network(data: bytes) -> Network:
    """What `write_network` wrote, in eval mode.

    Raises:
        DocumentError: it is damaged.
    """
    import torch

    from dynnas.nn.networks.network import Network
    from dynnas.space.config.network_json import config_from_dict

    header, weights = read_document(data)
    try:
        network = Network(config_from_dict(header["config"]))
        network.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DocumentError(f"no network: {error!r}"[:1000]) from error
    return network.eval()


def load_network(data: bytes, execution: Execution, device: str) -> Callable[[np.ndarray], np.ndarray]:
    """What `write_network` wrote, folded and compiled.

    Raises:
        DocumentError: it is damaged.
        TargetError: the runtime does not serve this device so.
    """
    from dynnas.runtimes.runner import build_local_runner
    from dynnas.settings.settings import TargetSettings

    return build_local_runner(read_network(data), TargetSettings(device=device, **asdict(execution)))


def graphics_card() -> str:
    """The name of the CUDA device, with what drives it."""
    from dynnas.runtimes.torch.cuda import gpu_name

    return gpu_name()
