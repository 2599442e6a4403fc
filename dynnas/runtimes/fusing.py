"""Batch norms of ordinary modules fused into the convolution or linear layer that each of them follows.

Which layer a batch norm follows is seen in one run: its input is the very tensor that the layer gave, and
nothing else has read that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from torch.overrides import TorchFunctionMode

from dynnas.nn.context import PLAIN, supplied
from dynnas.nn.conv2d import Conv2d

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED, nn.Linear, Conv2d)


@dataclass
class _Given:
    """The output of a layer in a call.

    Attributes:
        layer: the layer. tensor: its output.
        norms: that took it. others: how often anything else did.
    """

    layer: nn.Module
    tensor: Tensor
    norms: list[nn.Module] = field(default_factory=list)
    others: int = 0


class _Watch(TorchFunctionMode):
    """Counts who takes the outputs of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[int, _Given] = {}
        self.calls: dict[nn.Module, int] = {}
        self._in_norm = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        for value in tensors_in((args, kwargs)) if not self._in_norm else ():
            if id(value) in self.given:
                self.given[id(value)].others += 1
        return func(*args, **(kwargs or {}))

    def gave(self, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        """Take down what a layer has given: a forward hook."""
        self.calls[layer] = self.calls.get(layer, 0) + 1
        self.given[id(output)] = _Given(layer, output)

    def enter(self, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Take down what a norm takes: a forward pre-hook."""
        self.calls[norm] = self.calls.get(norm, 0) + 1
        if id(inputs[0]) in self.given:
            self.given[id(inputs[0])].norms.append(norm)
        self._in_norm = True

    def leave(self, norm: nn.Module, inputs: Any, output: Tensor) -> None:
        """Count again: a forward hook."""
        self._in_norm = False

    def pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Return layers and norms that can be one."""
        return [
            (given.layer, given.norms[0])
            for given in self.given.values()
            if len(given.norms) == 1
            and not given.others
            and self.calls[given.layer] == self.calls[given.norms[0]] == 1
            and (not isinstance(given.layer, nn.Linear) or given.tensor.ndim == 2)
        ]


@torch.no_grad()
def fuse_norms(network: nn.Module, image: Tensor) -> None:
    """Fuse the batch norms of `network` (in place), in eval mode: equal in its outputs up to rounding.

    Args:
        network: any module. image: that it takes, of any values.
    """
    if not any(type(module) in NORMS for module in network.modules()):
        return
    watch = _Watch()
    hooks = []
    for module in network.modules():
        if type(module) in NORMS and module.running_mean is not None:
            hooks += [
                module.register_forward_pre_hook(watch.enter),
                module.register_forward_hook(watch.leave),
            ]
        elif type(module) in LAYERS and not module._forward_hooks and not module._forward_pre_hooks:
            hooks.append(module.register_forward_hook(watch.gave))
    try:
        with supplied(network, PLAIN), watch:  # nothing is left out
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    replaced: dict[nn.Module, nn.Module] = {}
    for layer, norm in watch.pairs():
        replaced[layer], replaced[norm] = _fused(layer, norm), nn.Identity()
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if child in replaced:
                parent.add_module(name, replaced[child])


def _fused(layer: Any, norm: Any) -> nn.Module:
    if isinstance(layer, Conv2d):
        scale = torch.rsqrt(norm.running_var + norm.eps)
        scale = scale if norm.weight is None else norm.weight * scale
        shift = -norm.running_mean * scale
        layer.conv.absorb(scale, shift if norm.bias is None else norm.bias + shift)
        return layer
    if isinstance(layer, nn.Linear):
        return fuse_linear_bn_eval(layer, norm)
    return fuse_conv_bn_eval(layer, norm, transpose=isinstance(layer, TRANSPOSED))


def tensors_in(value: Any) -> Iterable[Tensor]:
    """Yield the tensors in a value: itself, or those in its mappings, lists and tuples."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from tensors_in(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors_in(each)
