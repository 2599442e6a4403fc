"""A switchable model in torch: one file, several networks, their common weights once in memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dynnas.errors import ExportError
from dynnas.export.switchable.sharing import Part, Sharing
from dynnas.nn.config.network_json import config_from_dict, config_to_dict
from dynnas.nn.layers.resize import resize
from dynnas.nn.networks.network import Network
from dynnas.nn.slices import Slice
from dynnas.nn.slicing import places


@dataclass(frozen=True)
class Member:
    """One network of a switchable model.

    Attributes:
        key: of the network in its study.
        ms: mean milliseconds of an image, of the ONNX file on the machine that exported it.
        score: on search images, by the first metric of the task.
        ways: the names of its exits, and `head`.
    """

    key: str
    ms: float
    score: float
    ways: tuple[str, ...]


class Switchable:
    """Networks that share their weights; one of them is active.

    Switching gives the active network its slices of the shared weights, and takes those of the one before
    away: there is never more than the shared weights and one network in memory.

    Args:
        networks: with any values; theirs come from `sharing`.
        sharing: of these networks, in this order.
        members: what is known of them, the best first.
        size: (H, W) of images.

    Attributes:
        members: the best first; the first is active.
        active: the one that answers.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        sharing: Sharing,
        members: Sequence[Member],
        size: tuple[int, int],
    ) -> None:
        self.members, self.size = tuple(members), size
        self._networks, self._sharing = [network.eval() for network in networks], sharing
        self._empty = []
        for network in self._networks:
            saved = set(network.state_dict())
            empty = [
                (owner, key, owner[key].to("meta")) for name, owner, key in places(network) if name in saved
            ]
            self._empty.append(empty)
            self._clear(len(self._empty) - 1)
        self.active = self.members[0]
        self._fill(0)

    def budget_ms(self, ms: float) -> Member:
        """Switch to the best network that takes at most `ms`, or to the fastest if none does; return it."""
        member = next(
            (each for each in self.members if each.ms <= ms), min(self.members, key=lambda each: each.ms)
        )
        self.switch(member.key)
        return member

    def switch(self, key: str) -> None:
        """Make the network of a key answer.

        Raises:
            ExportError: there is none.
        """
        keys = [member.key for member in self.members]
        if key not in keys:
            raise ExportError(f"switchable model: no network {key!r}; allowed are {', '.join(keys)}")
        before, after = self.members.index(self.active), keys.index(key)
        if before != after:
            self._clear(before)
            self._fill(after)
            self.active = self.members[after]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Map normalised images (B, channels, H, W) of `size` to the outputs of the active network."""
        network = self._networks[self.members.index(self.active)]
        output: Tensor = network(resize(images, network.config.shape[1:]))
        return output

    def _fill(self, member: int) -> None:
        state = self._sharing.state(member)
        for name, owner, key in places(self._networks[member]):
            if name in state:
                owner[key] = state[name].contiguous()  # convolutions would copy a slice for each image

    def _clear(self, member: int) -> None:
        for owner, key, empty in self._empty[member]:
            owner[key] = empty


def save_switchable(
    networks: Sequence[Network],
    sharing: Sharing,
    members: Sequence[Member],
    size: tuple[int, int],
    file: Path,
) -> None:
    """Write the file that `load_switchable` reads: tensors, numbers and words, no code."""
    parts = [
        {name: {"path": each.path, **asdict(each.part)} for name, each in mine.items()}
        for mine in sharing.parts
    ]
    described = {
        "members": [asdict(member) for member in members],
        "configs": [config_to_dict(network.config) for network in networks],
        "size": size,
        "parts": parts,
    }
    torch.save(
        {"described": json.dumps(described), "shared": sharing.tensors, "own": list(sharing.own)}, file
    )


def load_switchable(file: str | Path) -> Switchable:
    """Load a switchable model, on the CPU. Nothing in it is unpickled as code.

    Raises:
        ExportError: the file is missing or damaged.
    """
    try:
        read: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        described = json.loads(read["described"])
        parts = tuple({name: _part(**each) for name, each in mine.items()} for mine in described["parts"])
        members = [Member(**{**each, "ways": tuple(each["ways"])}) for each in described["members"]]
        with torch.random.fork_rng(devices=[]):
            networks = [Network(config_from_dict(config)) for config in described["configs"]]
        height, width = described["size"]
        return Switchable(
            networks, Sharing(read["shared"], parts, tuple(read["own"])), members, (height, width)
        )
    except Exception as error:  # torch's reader raises what it likes on damaged files
        raise ExportError(
            f"{file}: no switchable model, or damaged ({type(error).__name__}: {str(error)[:200]}); "
            "export it again"
        ) from error


def _part(path: str, **values: Any) -> Part:
    lists = {
        name: None if values[name] is None else tuple(values[name]) for name in ("starts", "sizes", "shape")
    }
    picks = tuple((axis, tuple(picked)) for axis, picked in values["picks"])
    return Part(path, Slice(averaged=values["averaged"], picks=picks, **lists))
