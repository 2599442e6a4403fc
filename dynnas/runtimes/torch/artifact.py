"""Artifacts of torch's runtimes: config and weights of a staged network, or the exported program of a module.

Neither is pickled code: a device may read them from anyone who is allowed to send them.
"""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dynnas.errors import TargetError
from dynnas.nn.config.network_json import config_from_dict, config_to_dict
from dynnas.nn.networks.network import Network
from dynnas.runtimes.artifact import TORCH_NETWORK, TORCH_PROGRAM, Artifact, LazyFiles
from dynnas.runtimes.cascade import Cascade, Finished
from dynnas.runtimes.document import DocumentError, read_document, write_document
from dynnas.runtimes.metadata import describe
from dynnas.runtimes.plain import Compilable, PlainNetwork, blank_images
from dynnas.settings.settings import TargetSettings

NETWORK, PROGRAM = "network.dynnas", "model.pt2"


def torch_artifact(network: Compilable, target: TargetSettings, runtime: str) -> Artifact:
    """Return the artifact of a copy of `network`, whose files are written when they are first read."""
    kept = copy.deepcopy(network).cpu().eval()
    metadata = describe(network, target)
    if isinstance(kept, PlainNetwork):
        files = LazyFiles({PROGRAM: lambda: write_program(kept, target.batch, target.dtype)})
        return Artifact(files, PROGRAM, TORCH_PROGRAM, runtime, metadata, kept)
    files = LazyFiles({NETWORK: lambda: write_network(kept)})
    return Artifact(files, NETWORK, TORCH_NETWORK, runtime, metadata, kept)


def read_torch_artifact(artifact: Artifact) -> Compilable:
    """Return the network of an artifact, on a CPU in eval mode.

    Raises:
        DocumentError: it is damaged.
        TargetError: it is of another kind.
    """
    if artifact.live is not None:
        return artifact.live
    if artifact.media_type == TORCH_NETWORK:
        return read_network(artifact.data)
    if artifact.media_type == TORCH_PROGRAM:
        shape = [int(side) for side in artifact.metadata["shape"].split()]
        return PlainNetwork(_Program(torch.export.load(io.BytesIO(artifact.data))), shape)
    raise TargetError(f"target: {artifact.runtime} runs no {artifact.media_type}; compile the network again")


def write_network(network: Finished) -> bytes:
    """Return `network`, on a CPU, as bytes for `read_network`.

    Raises:
        TargetError: it is a cascade that is not of staged classifiers, which bytes do not hold.
    """
    if isinstance(network, Cascade):
        if any(link.task for link in network.config.exits) or not all(
            isinstance(stage.network, Network) for stage in network.members
        ):
            raise TargetError(
                "target: the runtimes of torch send no cascade to a device but of classifiers of a space "
                "file; use runtime onnxruntime_portable"
            )
        header: dict[str, Any] = {
            "networks": [config_to_dict(stage.network.config) for stage in network.members],
            "thresholds": list(network.thresholds),
            "names": [link.after for link in network.config.exits],
            "size": list(network.config.size),
        }
        members: Sequence[Network] = [stage.network for stage in network.members]
    else:
        header, members = {"networks": [config_to_dict(network.config)]}, [network]
    arrays = {
        f"{number}/{name}": tensor.numpy()
        for number, member in enumerate(members)
        for name, tensor in member.state_dict().items()
    }
    return write_document(header, arrays)


def read_network(data: bytes) -> Finished:
    """Read what `write_network` wrote, in eval mode.

    Raises:
        DocumentError: it is damaged.
    """
    header, arrays = read_document(data)
    try:
        members = [_built(config, arrays, f"{number}/") for number, config in enumerate(header["networks"])]
        if "thresholds" not in header:
            (network,) = members
            return network.eval()
        height, width = map(int, header["size"])
        return Cascade(members, header["thresholds"], header["names"], (height, width)).eval()
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DocumentError(f"no network: {error!r}"[:1000]) from error


def _built(config: Mapping[str, Any], arrays: Mapping[str, np.ndarray], scope: str) -> Network:
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay
        network = Network(config_from_dict(config))
    own = {name.removeprefix(scope): array for name, array in arrays.items() if name.startswith(scope)}
    network.load_state_dict({name: torch.from_numpy(array) for name, array in own.items()})
    return network


def write_program(network: PlainNetwork, batch: int, dtype: str) -> bytes:
    """Export a module for images (batch, C, R, R), computing in `dtype`, and return the program's bytes."""
    kind = getattr(torch, dtype)
    example = blank_images(network.config, batch).to(kind)
    stream = io.BytesIO()
    module = copy.deepcopy(network).to(kind)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch warns of its own parts
        torch.export.save(torch.export.export(module, (example,)), stream)
    return stream.getvalue()


class _Program(nn.Module):
    """An exported program as a module that can be put into eval mode; its type stays."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        super().__init__()
        self._program = (program.module(),)  # in a tuple, for it refuses to be put into eval mode

    def forward(self, x: Tensor) -> Tensor:
        return self._program[0](x)

    def __deepcopy__(self, memo: Any) -> _Program:
        return self  # read for one runner, and nothing in it changes

    def _apply(self, fn: Any, recurse: bool = True) -> nn.Module:
        """Move parameters and buffers; an exported program is of one type already."""
        self._program[0]._apply(fn, recurse)
        return self
