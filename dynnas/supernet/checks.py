"""Checks of the networks of one's own class, so that what cannot work is said before a training.

`dynnas.testing.check_space` checks more; this is what costs next to nothing.
"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

from dynnas.errors import SpaceError
from dynnas.nn.context import PLAIN, supplied
from dynnas.nn.slicing import layouts
from dynnas.space.architecture import Value
from dynnas.space.moves import largest, smallest
from dynnas.space.space import Space
from dynnas.supernet.blank import blank
from dynnas.supernet.states import changed, noted

_IMAGES = 2


def check_networks(space: Space, shape: tuple[int, int, int], outputs: int = 0) -> None:
    """Build and run the smallest and the largest network of a class.

    Args:
        space: what `Space.of` made.
        shape: (channels, height, width) of the images of the data.
        outputs: numbers for an image that the data ask for, such as classes; 0 where that is not known.

    Raises:
        SpaceError: a network cannot be built or run, is another one each time, shares memory between
            parameters, cannot be copied, has another number of outputs, does not give the same for the same
            images, decides by the values of its input what it runs, or keeps a state in training that no rule
            shares. The message says the remedy.
    """
    for architecture in dict.fromkeys((smallest(space), largest(space))):
        where = f"{space.name}({_spelled(space.arguments(architecture))})"
        with torch.random.fork_rng(devices=[]):
            network = space.build(architecture)
        if not isinstance(network, nn.Module):
            raise SpaceError(f"{where} gives {type(network).__name__}; needed is a torch.nn.Module")
        network.eval()
        _check_same(where, network, blank(lambda: space.build(architecture)))  # noqa: B023
        check_memory(where, network)
        _check_copies(where, network)
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(_IMAGES, *space.image_shape(architecture, shape), generator=generator)
        _check_outputs(where, _check_runs(where, network, images), outputs)
        _check_data(where, network, images)
        _check_states(where, network, images)


def _spelled(arguments: Mapping[str, Value]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())


def _check_same(where: str, network: nn.Module, again: nn.Module) -> None:
    one, other = ({n: tuple(t.shape) for n, t in each.state_dict().items()} for each in (network, again))
    differ = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
    if differ:
        raise SpaceError(
            f"{where} is another network each time it is built: {differ[0]} has the shapes "
            f"{one.get(differ[0], 'none')} and {other.get(differ[0], 'none')}; build it by its arguments "
            "alone, without random numbers or counters"
        )


def check_memory(where: str, network: nn.Module) -> None:
    """Refuse two parameters in one memory.

    Raises:
        SpaceError: there are such; a parameter that has two names is one.
    """
    held: dict[int, str] = {}
    for name, parameter in network.named_parameters():
        if not parameter.numel():
            continue
        first = held.setdefault(parameter.untyped_storage().data_ptr(), name)
        if first != name:
            raise SpaceError(
                f"{where}: the parameters {first} and {name} are two that share their memory, and the copies "
                "that networks are given would not; let both be one parameter (self.b = self.a), which stays "
                "tied, or give each its own"
            )


@torch.no_grad()
def _check_runs(where: str, network: nn.Module, images: Tensor) -> Tensor:
    seen = tuple(images.shape)
    try:
        with torch.random.fork_rng(devices=[]), supplied(network, PLAIN):
            first, second = _last(network(images)), _last(network(images))
    except Exception as error:
        raise SpaceError(
            f"{where} cannot be run on images {seen}: {type(error).__name__}: {error}; its class must take "
            "what the data gives, (B, channels, height, width)"
        ) from error
    if not isinstance(first, Tensor) or len(first) != len(images):
        found = tuple(first.shape) if isinstance(first, Tensor) else type(first).__name__
        raise SpaceError(
            f"{where} gives {found} for images {seen}; allowed: a tensor with a row for each image, or a "
            "tuple of several whose last one counts"
        )
    if not torch.equal(first, second) and not bool(first.isnan().any()):
        raise SpaceError(
            f"{where} is not deterministic: in eval mode the same images give outputs that differ by up to "
            f"{float((first - second).abs().max()):.3g}; leave out what is drawn or counted in `forward` "
            "unless `self.training`"
        )
    return first


def _check_copies(where: str, network: nn.Module) -> None:
    """See whether a network can be copied, as it is to be calibrated, timed and shipped."""
    try:
        copy.deepcopy(network)
    except Exception as error:  # whatever a module may hold
        said = next(iter(str(error).splitlines()), "")
        raise SpaceError(
            f"{where} cannot be copied: {type(error).__name__}: {said}; leave out what keeps computed "
            "tensors, as torch.nn.utils.weight_norm does; torch.nn.utils.parametrizations.weight_norm can be "
            "copied"
        ) from error


def _check_outputs(where: str, found: Tensor, outputs: int) -> None:
    if outputs and found.dim() == 2 and found.shape[1] != outputs:
        raise SpaceError(
            f"{where} gives {found.shape[1]} outputs, and the data ask for {outputs}; let the class make as "
            "many"
        )


def _check_data(where: str, network: nn.Module, images: Tensor) -> None:
    """See whether `forward` runs on images that have a shape alone."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        try:
            with supplied(network, PLAIN):
                network(mode.from_tensor(images))
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            place = _place(error)
        except Exception:  # what torch does not know of shapes says nothing about the class
            return
        else:
            return
    raise SpaceError(
        f"{where} decides by the values of its input what it runs{place}: an exported graph would do for all "
        "images what one of them asked for; use dynnas.nn.EarlyExits, dynnas.nn.Skippable or a gated block, "
        "which become real branches, or torch.where, which computes both"
    )


def _check_states(where: str, network: nn.Module, images: Tensor) -> None:
    """See whether a training changes buffers that each network would have for itself."""
    before = noted(network)
    with suppress(Exception), torch.random.fork_rng(devices=[]), torch.no_grad(), supplied(network, PLAIN):
        network.train()(images)  # what a training would raise it says itself
    if names := sorted(changed(network, before) - layouts(network).keys()):
        raise SpaceError(
            f"{where} keeps a state in training: its buffer {names[0]} is another one after a run, and each "
            "network would keep its own. Leave it out (such as spectral norm), or share it: "
            f'elastic = {{"{names[0]}": leading}} in the class, with `leading` of dynnas.nn.slicing'
        )


def _place(error: BaseException) -> str:
    """Return the line of the user's own code at which an error began."""
    own = (Path(torch.__file__).parent, Path(__file__).parents[1])
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        if not any(Path(frame.filename).is_relative_to(folder) for folder in own):
            return f" ({Path(frame.filename).name}, line {frame.lineno}: {frame.line})"
    return ""


def _last(output: Any) -> Any:
    return output[-1] if isinstance(output, tuple | list) and output else output
