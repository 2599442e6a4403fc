"""A network's head in another size, where other classes are to be told apart."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dynnas.errors import SpaceError
from dynnas.supernet.conversion.coupling.channels import Solution
from dynnas.supernet.conversion.coupling.tracing import Tracer


def replace_head(
    network: nn.Module, tracer: Tracer, solution: Solution, outputs: Any, classes: int, seed: int
) -> None:
    """Give a network other outputs, in place: the layers that give its last axis of channels are new.

    Raises:
        SpaceError: the outputs are none of a single tensor, or come from other layers than
            `nn.Linear` and `nn.Conv2d`.
    """
    name = type(network).__name__
    if not isinstance(outputs, Tensor):
        raise SpaceError(f"{name}: gives {type(outputs).__name__}; classes=... is for one tensor of outputs")
    axes = [axis for axis in tracer.axes(outputs) if axis is not None]
    heads = _layers(network, tracer, solution, axes[-1] if axes else None)
    if not heads:
        raise SpaceError(
            f"{name}: no nn.Linear or nn.Conv2d gives its outputs; replace the head before it is made elastic"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for path in heads:
            parent, _, key = path.rpartition(".")
            network.get_submodule(parent)._modules[key] = _resized(network.get_submodule(path), classes)
    for module in network.modules():
        if isinstance(getattr(module, "num_classes", None), int):
            module.num_classes = classes  # type: ignore[assignment]


def _layers(network: nn.Module, tracer: Tracer, solution: Solution, axis: Any) -> list[str]:
    if axis is None:
        return []
    labels = np.unique(solution.labels[axis])
    found = []
    for path, module in network.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            out = tracer.tensors.get(f"{path}.weight" if path else "weight", (None,))[0]
            if out is not None and np.isin(solution.labels[out], labels).all():
                found.append(path)
    return found


def _resized(layer: nn.Module, outputs: int) -> nn.Module:
    found = copy.deepcopy(layer)
    weight, bias = found.weight, found.bias
    assert isinstance(weight, Tensor)
    found.weight = nn.Parameter(weight.new_empty(outputs, *weight.shape[1:]))
    if isinstance(bias, Tensor):
        found.bias = nn.Parameter(bias.new_empty(outputs))
    setattr(found, "out_features" if isinstance(found, nn.Linear) else "out_channels", outputs)
    found.reset_parameters()  # type: ignore[operator]
    return found
