"""Weights from elsewhere: a supernet begins with the tensors of a file, by name and shape."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dynnas.errors import TrainingError, require
from dynnas.files import atomic_write
from dynnas.nn.slicing import layouts
from dynnas.progress import Progress
from dynnas.supernet.blank import blank
from dynnas.supernet.build import OnePart
from dynnas.supernet.elastic import Elastic
from dynnas.supernet.supernet import Supernet, slot_key

REPORT = "init.json"
"""File name of the report on the initial weights, in the folder of the training."""

_NESTED = ("state_dict", "model_state_dict", "model", "network", "weights", "module")
"""Keys under which checkpoints of other programs keep their tensors."""
_PREFIXES = ("module.", "_orig_mod.", "model.")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_NAMED = 3
"""Maximum number of names that a message lists."""


@dataclass(frozen=True)
class InitReport:
    """The names that a supernet took from a file, and those that it did not.

    Attributes:
        file: its path. digest: of its content.
        used: names of the file whose tensors were taken.
        other_shape: names of the file whose tensor has another shape, with both shapes in words.
        unknown: names of the file that the supernet does not have.
        statistics: batch-norm statistics of the file; those of candidates are computed from images.
        fresh: names of the supernet that keep their random initial values.
    """

    file: str
    digest: str
    used: tuple[str, ...]
    other_shape: Mapping[str, str]
    unknown: tuple[str, ...]
    statistics: tuple[str, ...]
    fresh: tuple[str, ...]

    def __str__(self) -> str:
        """Describe it in one line."""
        rest = [
            f"{len(self.other_shape)} have another shape{_listed(self.other_shape)}",
            f"{len(self.unknown)} are unknown here{_listed(self.unknown)}",
            f"{len(self.fresh)} of the supernet begin as drawn{_listed(self.fresh)}",
        ]
        told = [
            text
            for text, names in zip(rest, (self.other_shape, self.unknown, self.fresh), strict=True)
            if names
        ]
        total = len(self.used) + len(self.other_shape) + len(self.unknown)
        return "; ".join([f"{self.file}: {len(self.used)} of {total} tensors are used", *told])


def _listed(names: Any) -> str:
    first = list(names)[:_NAMED]
    return f" ({', '.join(first)}{', ...' if len(names) > _NAMED else ''})"


def file_digest(path: str | Path) -> str:
    """Sixteen hexadecimal digits of a file's content.

    Raises:
        TrainingError: it cannot be read.
    """
    try:
        with Path(path).expanduser().open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise TrainingError(
            f"{path}: cannot be read ({error.strerror}); give the path of a checkpoint, or leave out "
            "train.init"
        ) from error


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name; nothing in the file is run as code.

    Args:
        path: of what `torch.save` wrote (a state dict, alone or under a key such as `state_dict`), or of a
            `.safetensors` file. Prefixes that wrappers put before all names are left out.

    Raises:
        TrainingError: the file is missing, damaged, or holds no tensors by name.
        MissingExtraError: safetensors is not installed.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise TrainingError(f"{path}: there is no such file; give the path of a checkpoint")
    content: Any
    if path.suffix == ".safetensors":
        safetensors = require("safetensors", "safetensors")
        torch_form = require("safetensors.torch", "safetensors")
        try:
            content = torch_form.load_file(path)
        except (safetensors.SafetensorError, OSError) as error:
            raise TrainingError(f"{path}: no readable safetensors file ({error})") from error
    else:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
            raise TrainingError(
                f"{path}: torch.load(weights_only=True) cannot read it ({_first_line(error)}); save the "
                "state dict alone: torch.save(network.state_dict(), FILE)"
            ) from error
    found = _tensors(content)
    if not found:
        raise TrainingError(
            f"{path}: holds no tensors by name; save them by torch.save(network.state_dict(), FILE)"
        )
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return found


def _first_line(error: Exception) -> str:
    """Return the first sentence; torch's go on with advice to read files that run code."""
    line = next(iter(str(error).splitlines()), type(error).__name__)
    return line.partition(". ")[0]


def _tensors(content: Any) -> dict[str, Tensor]:
    """Return the tensors of a state dict, or of the first one that lies under a usual key."""
    if not isinstance(content, Mapping):
        return {}
    tensors = {name: each for name, each in content.items() if isinstance(each, Tensor)}
    if tensors:
        return tensors
    return next((found for key in _NESTED if (found := _tensors(content.get(key)))), {})


def load_initial_weights(supernet: Supernet, path: str | Path) -> InitReport:
    """Give the shared weights of `supernet` the values of a file, in place.

    A tensor of the file is used if one of the largest networks has it under its name and in its shape. Each
    kernel of a bank begins as the single kernel of the file. Of the checkpoint of another supernet, such as
    `supernet/checkpoint.pt` of a study, shared tensors are used by their own names and shapes.

    Raises:
        TrainingError: the file cannot be read, or no weight in it fits.
    """
    tensors = read_tensors(path)
    used: set[str] = set()
    shared = supernet.state_dict()
    if any(name in shared for name in tensors):
        shapes = {name: tuple(tensor.shape) for name, tensor in shared.items()}
        used = {name for name, tensor in tensors.items() if shapes.get(name) == tuple(tensor.shape)}
        supernet.load_state_dict({name: tensors[name] for name in used}, strict=False)
        return _report(path, tensors, used, shapes)
    shapes = {}
    build = supernet.build
    for part, configs in build.covering().items():
        prefix = "" if isinstance(build, OnePart) else f"slots.{slot_key(part)}."
        elastic = supernet.slots[slot_key(part)]
        assert isinstance(elastic, Elastic)
        own = {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}
        for config in reversed(configs):  # the largest comes first, and has the last word
            used |= {prefix + name for name in elastic.write(config, own)}
            found = layouts(blank(partial(build.part, config)))
            shapes = {**{prefix + name: layout.shape for name, layout in found.items()}, **shapes}
    return _report(path, tensors, used, shapes)


def _report(
    path: str | Path, tensors: Mapping[str, Tensor], used: set[str], shapes: Mapping[str, tuple[int, ...]]
) -> InitReport:
    """Return what was used of a file, for a supernet whose tensors have these shapes.

    Raises:
        TrainingError: no weight fits.
    """
    if not any(tensors[name].dim() > 1 for name in used):  # a bias of a common length fits by chance
        raise TrainingError(_nothing_fits(path, tensors, shapes))
    rest = [name for name in tensors if name not in used]
    return InitReport(
        str(path),
        file_digest(path),
        tuple(name for name in tensors if name in used),
        {name: f"{tuple(tensors[name].shape)}, here {shapes[name]}" for name in rest if name in shapes},
        tuple(name for name in rest if name not in shapes and not name.endswith(_STATISTICS)),
        tuple(name for name in rest if name not in shapes and name.endswith(_STATISTICS)),
        tuple(name for name in shapes if name not in used),
    )


def load_weights(network: nn.Module, path: str | Path) -> nn.Module:
    """Give a network the weights of a file, in place, and return it in eval mode.

    Raises:
        TrainingError: the file cannot be read, or has not just the tensors of the network, in their shapes.
    """
    tensors = read_tensors(path)
    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    shared = [name for name in own if name in found]
    problems = {
        "it lacks": [name for name in own if name not in found],
        "it has besides": [name for name in found if name not in own],
        "other shapes have": [
            f"{name} {found[name]}, here {own[name]}" for name in shared if found[name] != own[name]
        ],
    }
    told = "; ".join(f"{what} {len(names)}{_listed(names)}" for what, names in problems.items() if names)
    if told:
        raise TrainingError(
            f"{path}: is no checkpoint of {type(network).__name__}, which has {len(own)} tensors: {told}; "
            "give the class that was trained, with the arguments that it was trained with"
        )
    network.load_state_dict(tensors)
    return network.eval()


def begin_with(supernet: Supernet, path: str | Path, folder: Path, progress: Progress) -> None:
    """Load initial weights, say so, and keep what was used in `folder`/init.json.

    Raises:
        TrainingError: as `load_initial_weights` says.
    """
    report = load_initial_weights(supernet, path)
    atomic_write(folder / REPORT, json.dumps(asdict(report), indent=2) + "\n")
    progress.message(str(report))


def _nothing_fits(
    path: str | Path, tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> str:
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    common = next((name for name in found if name in shapes), None)
    if common is not None:
        problem = f"its {common} has the shape {found[common]}, here {shapes[common]}"
    else:
        problem = f"it has {_shapes(found)}, and the supernet {_shapes(shapes)}"
    return (
        f"{path}: none of the weights among its {len(tensors)} tensors fits this supernet: {problem}; give "
        "a checkpoint of the largest network of this space, or leave out train.init"
    )


def _shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:_NAMED])
