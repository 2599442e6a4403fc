"""Modes of the dynamic layers of a module, set on the module itself: there is no process-wide switch."""

from __future__ import annotations

from typing import Any, get_args

from torch import nn

from dynnas.nn.dynamic_conv.mixing import Strategy
from dynnas.nn.gates.estimators import Chooser, Estimator
from dynnas.nn.gates.features import Features
from dynnas.nn.gates.gate import Deciding, Execution
from dynnas.nn.gates.policy import Policy
from dynnas.nn.kernels.condconv import RoutingDropout
from dynnas.nn.kernels.kernel import Kernel


def set_strategy(module: nn.Module, strategy: Strategy) -> None:
    """Choose how the dynamic convolutions in `module` run: "auto", or "conv_first" to export a free batch.

    Raises:
        ValueError: there is no such strategy.
    """
    _check("strategy", strategy, Strategy)
    for child in module.modules():
        if isinstance(child, Kernel):
            child.strategy = strategy


def set_routing_dropout(module: nn.Module, rate: float) -> None:
    """Set the dropout on what the condconv routers in `module` see while training.

    Raises:
        ValueError: the rate is not from 0 to below 1.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"a dropout rate is from 0 to below 1, not {rate}")
    for child in module.modules():
        if isinstance(child, RoutingDropout):
            child.p = rate


def settle(module: nn.Module) -> None:
    """Work out for good what no image changes in `module`: what it is then is what ships, and what counts."""
    for child in module.modules():
        if isinstance(child, Kernel | Features | Policy):
            child.settle()


def set_temperature(module: nn.Module, temperature: float) -> None:
    """Set the softmax temperature of every router in `module` that has one (a buffer called `temperature`).

    Raises:
        ValueError: the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"a softmax temperature is positive, not {temperature}")
    for name, buffer in module.named_buffers():
        if name.endswith("temperature"):
            buffer.fill_(temperature)


def set_execution(module: nn.Module, execution: Execution) -> None:
    """Choose how what gates decide on in `module` runs: see `dynnas.nn.gates.gate.Execution`.

    Raises:
        ValueError: there is no such way.
    """
    _check("execution", execution, Execution)
    for child in module.modules():
        if isinstance(child, Deciding):
            child.execution = execution


def set_open(module: nn.Module, open: bool) -> None:
    """Let every image run all that gates decide on in `module`, or what their gates say."""
    for child in module.modules():
        if isinstance(child, Deciding):
            child.open = open


def set_estimator(module: nn.Module, estimator: Estimator, temperature: float) -> None:
    """Choose how the gates in `module` learn: see `dynnas.nn.gates.estimators.Estimator`.

    Raises:
        ValueError: there is no such estimator, or the temperature of its softmax is not positive.
    """
    _check("estimator", estimator, Estimator)
    if not temperature > 0:
        raise ValueError(f"a softmax temperature is positive, not {temperature}")
    for child in module.modules():
        if isinstance(child, Chooser):
            child.estimator, child.temperature = estimator, temperature


def set_gate_noise(module: nn.Module, scale: float) -> None:
    """Set how much noise the gates in `module` decide with while training: 1 to draw, 0 for none."""
    for name, buffer in module.named_buffers():
        if name.endswith("gate_noise"):
            buffer.fill_(scale)


def _check(what: str, name: str, known: Any) -> None:
    if name not in get_args(known):
        raise ValueError(f"unknown {what} {name!r}: known are {', '.join(get_args(known))}")
