"""Blank modules, whose shared tensors have shapes to slice by, but no values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from dynnas.nn.layers.unfilled import unfilled
from dynnas.nn.slices import Layout
from dynnas.nn.slicing import places


def blank(build: Callable[[], nn.Module]) -> nn.Module:
    """Return the result of `build`, without values if it can do without them (on the meta device).

    Code that looks at values while it builds, and modules that keep tensors beside their parameters, are
    built with values, and always with the same: buffers belong to the network that has them.
    """
    try:
        with unfilled():
            module = build()
    except Exception:  # whatever is wrong shows again, and better, in a module with values
        return _with_values(build)
    return _with_values(build) if any(tensor.is_meta for tensor in _own_tensors(module)) else module


def _with_values(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


def _own_tensors(module: nn.Module) -> Iterator[Tensor]:
    """Yield the tensors that the modules keep and no rule shares."""
    for part in module.modules():
        if not isinstance(part, _NormBase):
            rules = getattr(part, "elastic", None)
            yield from (t for name, t in part._buffers.items() if t is not None and name not in (rules or ()))
        for value in vars(part).values():
            held = value if isinstance(value, list | tuple) else (value,)
            yield from (t for t in held if isinstance(t, Tensor) and not isinstance(t, nn.Parameter))


def own_buffers(module: nn.Module, shared: Iterable[str]) -> Iterator[tuple[dict[str, Tensor | None], str]]:
    """Yield the dictionary and key of every buffer that is not shared, except the statistics of norms."""
    known = set(shared)
    for prefix, part in module.named_modules():
        if not isinstance(part, _NormBase):
            for key, tensor in part._buffers.items():
                if tensor is not None and (f"{prefix}.{key}" if prefix else key) not in known:
                    yield part._buffers, key


def fit_buffers(module: nn.Module, shared: Iterable[str], like: Tensor) -> None:
    """Bring the buffers of a blank module to the device and the precision of `like`, as `module.to` would."""
    for owner, key in own_buffers(module, shared):
        buffer = owner[key]
        assert buffer is not None
        owner[key] = buffer.to(like.device, like.dtype if buffer.is_floating_point() else None)


def forget_statistics(module: nn.Module) -> None:
    """Make norms use the statistics of the batch in any mode: shared weights have none."""
    for part in module.modules():
        if isinstance(part, _NormBase) and part.track_running_stats:
            part.track_running_stats = False
            part.running_mean = part.running_var = part.num_batches_tracked = None


def fill(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Give a blank module tensors of its own with these values, by name; tied ones stay tied.

    Statistics of norms begin as new.
    """
    held: dict[str, Tensor] = {}
    for name, owner, key in list(places(module)):
        if name in tensors:
            if name not in held:
                value = tensors[name].detach().clone(memory_format=torch.contiguous_format)
                old = owner[key]
                if isinstance(old, nn.Parameter):
                    value = nn.Parameter(value, requires_grad=old.requires_grad)
                held[name] = value
            owner[key] = held[name]
    like = next(iter(tensors.values()), torch.empty(0))
    for part in module.modules():
        if isinstance(part, _NormBase) and part.track_running_stats:
            for key, tensor in part._buffers.items():
                if tensor is not None:
                    dtype = like.dtype if tensor.is_floating_point() else tensor.dtype
                    part._buffers[key] = torch.empty_like(tensor, device=like.device, dtype=dtype)
            part.reset_running_stats()


def drop_values(module: nn.Module, shared: dict[str, Layout]) -> None:
    """Drop the values of a module's shared tensors: only their shapes are needed."""
    held: dict[str, Tensor] = {}
    for name, owner, key in list(places(module)):
        tensor = owner[key]
        if name not in shared or tensor.is_meta:
            continue
        if name not in held:
            meta = torch.empty_like(tensor, device="meta")
            held[name] = (
                nn.Parameter(meta, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else meta
            )
        owner[key] = held[name]
