"""Runs of residual blocks that keep their shape, and may be left out: what comes in goes out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from dynnas.supernet.conversion.coupling.channels import Axis, Solution
from dynnas.supernet.conversion.coupling.tracing import Tracer


@dataclass(frozen=True)
class Run:
    """Blocks one after the other in a container, whose last ones may be left out.

    Attributes:
        container: its name. blocks: names of the blocks.
        others: how many other parts with weights the container has.
    """

    container: str
    blocks: tuple[str, ...]
    others: int

    def least(self, share: float) -> int:
        """Return the least number of blocks that stay, if `share` of the container's parts must."""
        stay = math.ceil((len(self.blocks) + self.others) * share)
        return min(max(stay - self.others, 0 if self.others else 1), len(self.blocks))


@dataclass
class _Seen:
    """One call of a block."""

    before: tuple[Axis, ...] = ()
    after: tuple[Axis, ...] = ()
    shapes: tuple[Any, Any] = ((), ())
    calls: int = 0
    problem: str | None = None


class BlocksSeen:
    """Records of what the parts of containers get and give."""

    def __init__(self) -> None:
        self.seen: dict[str, _Seen] = {}

    def residual(self, name: str, solution: Solution) -> bool:
        """Tell whether a block gives what it gets, plus something, in the same shape."""
        seen = self.seen.get(name)
        return (
            seen is not None
            and seen.calls == 1
            and seen.problem is None
            and seen.shapes[0] == seen.shapes[1]
            and solution.same(seen.before, seen.after)
        )


def containers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Lists of modules that are run in their order."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Sequential | nn.ModuleList):
            yield name, module


@contextmanager
def blocks_watched(tracer: Tracer, network: nn.Module) -> Iterator[BlocksSeen]:
    """Watch the parts of containers while the network runs inside."""
    found = BlocksSeen()
    hooks = []
    for container, module in containers(network):
        for key, child in module.named_children():
            name = f"{container}.{key}" if container else key
            if isinstance(child, nn.Identity) or not any(p.dim() > 1 for p in child.parameters()):
                continue
            found.seen[name] = _Seen()
            hooks.append(child.register_forward_pre_hook(_entered(tracer, found, name), with_kwargs=True))
            hooks.append(child.register_forward_hook(_left(tracer, found, name)))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _entered(tracer: Tracer, found: BlocksSeen, name: str) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        seen = found.seen[name]
        seen.calls += 1
        if len(args) != 1 or options or not isinstance(args[0], Tensor):
            seen.problem = "takes more than one input"
            return
        facts = tracer.facts(args[0])
        tracer.set(args[0], replace(facts, tokens=facts.tokens | {name}))
        seen.before, seen.shapes = facts.axes, (args[0].shape, None)

    return hook


def _left(tracer: Tracer, found: BlocksSeen, name: str) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        seen = found.seen[name]
        if not isinstance(output, Tensor):
            seen.problem = "gives more than one output"
            return
        facts = tracer.facts(output)
        seen.after, seen.shapes = facts.axes, (seen.shapes[0], output.shape)
        if name not in facts.tokens:
            seen.problem = "its input does not reach its output by an addition"

    return hook


def runs_of(network: nn.Module, found: BlocksSeen, solution: Solution) -> list[Run]:
    """Return the runs of residual blocks, the outermost first; blocks inside of blocks stay."""
    runs: list[Run] = []
    for container, module in containers(network):
        if any(container.startswith(f"{block}.") for run in runs for block in run.blocks):
            continue
        children = [f"{container}.{key}" if container else key for key, _ in module.named_children()]
        current: list[str] = []
        for name in [*children, ""]:
            if name and found.residual(name, solution):
                current.append(name)
                continue
            if current:
                weighty = sum(child in found.seen for child in children)
                runs.append(Run(container, tuple(current), weighty - len(current)))
            current = []
    return runs
