"""Runs of blocks that keep their shape, and may be left out: what comes in goes out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from dynnas.supernet.conversion.coupling.channels import Axis, Couplings, Solution
from dynnas.supernet.conversion.coupling.tracing import Tracer


@dataclass(frozen=True)
class Run:
    """Blocks one after the other in a container, whose last ones may be left out.

    Attributes:
        container: its name. blocks: names of the blocks.
        others: how many other parts with weights the container has.
        removed: whether a block that is left out is taken from its list, as one that takes more than one
            input; else `nn.Identity` takes its place.
    """

    container: str
    blocks: tuple[str, ...]
    others: int
    removed: bool = False

    def least(self, share: float) -> int:
        """Return the least number of blocks that stay, if `share` of the container's parts must."""
        stay = math.ceil((len(self.blocks) + self.others) * share)
        return min(max(stay - self.others, 0 if self.others else 1), len(self.blocks))


@dataclass
class _Seen:
    """One call of a block.

    Attributes:
        added: whether its input reaches its output by additions. parts: whether it has modules of its own.
        more: whether it takes more than one input.
    """

    before: tuple[Axis, ...] = ()
    after: tuple[Axis, ...] = ()
    shapes: tuple[Any, Any] = ((), ())
    calls: int = 0
    problem: str | None = None
    added: bool = False
    parts: bool = False
    more: bool = False

    @property
    def keeps(self) -> bool:
        """Tell whether it keeps the shape of its input."""
        return self.calls == 1 and self.problem is None and self.shapes[0] == self.shapes[1]

    @property
    def plain(self) -> bool:
        """Tell whether it is a block that keeps the shape of its input, but adds nothing to it."""
        return self.keeps and self.parts and not self.added


class BlocksSeen:
    """Records of what the parts of containers get and give.

    Attributes:
        seen: by the name of the part.
        joined: names of blocks without a residual whose input and output have the same channels all the same.
    """

    def __init__(self) -> None:
        self.seen: dict[str, _Seen] = {}
        self.joined: set[str] = set()

    def may_go(self, name: str, solution: Solution) -> bool:
        """Tell whether a block's input can stand for its output: it is added to, or they were joined."""
        seen = self.seen.get(name)
        return (
            seen is not None
            and seen.keeps
            and (seen.added or name in self.joined)
            and solution.same(seen.before, seen.after)
        )

    def join_plain(self, couplings: Couplings) -> None:
        """Say that blocks without a residual, which keep their shape, give the channels that they get."""
        for name, seen in self.seen.items():
            if seen.plain and all(
                (a is None) == (b is None) for a, b in zip(seen.before, seen.after, strict=True)
            ):
                for a, b in zip(seen.before, seen.after, strict=True):
                    couplings.join(a, b)
                self.joined.add(name)


def containers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Lists of modules that are run in their order."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Sequential | nn.ModuleList):
            yield name, module


@contextmanager
def blocks_watched(tracer: Tracer, network: nn.Module, also: Sequence[str] = ()) -> Iterator[BlocksSeen]:
    """Watch the parts of containers, and the modules named in `also`, while the network runs inside."""
    found = BlocksSeen()
    hooks = []
    watched = {name: network.get_submodule(name) for name in also}
    for container, module in containers(network):
        for key, child in module.named_children():
            name = f"{container}.{key}" if container else key
            if not isinstance(child, nn.Identity) and any(p.dim() > 1 for p in child.parameters()):
                watched[name] = child
    for name, child in watched.items():
        found.seen[name] = _Seen(parts=any(True for _ in child.children()))
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
        if not args or not isinstance(args[0], Tensor):
            seen.problem = "its first input is no tensor"
            return
        seen.more = len(args) > 1 or bool(options)
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
        seen.added = name in facts.tokens

    return hook


def runs_of(network: nn.Module, found: BlocksSeen, solution: Solution) -> list[Run]:
    """Return the runs of blocks that may be left out, the outermost first; blocks inside of blocks stay."""
    runs: list[Run] = []
    for container, module in containers(network):
        if any(container.startswith(f"{block}.") for run in runs for block in run.blocks):
            continue
        children = [f"{container}.{key}" if container else key for key, _ in module.named_children()]
        current: list[str] = []
        for name in [*children, ""]:
            if name and found.may_go(name, solution):
                current.append(name)
                continue
            more = any(found.seen[block].more for block in current)
            if current and not (more and name):  # of a list only the last may be taken
                weighty = sum(child in found.seen for child in children)
                runs.append(Run(container, tuple(current), weighty - len(current), more))
            current = []
    return runs


def plain_runs(network: nn.Module, found: BlocksSeen, gone: Sequence[Run]) -> dict[str, list[str]]:
    """Return by container the blocks that keep their shape, but have no residual by which they may go.

    Those inside of blocks that may be left out (`gone`) are not among them.
    """
    runs: dict[str, list[str]] = {}
    for container, module in containers(network):
        if any(container.startswith(f"{block}.") for run in gone for block in run.blocks):
            continue
        names = [f"{container}.{key}" if container else key for key, _ in module.named_children()]
        plain = [name for name in names if name in found.seen and found.seen[name].plain]
        if plain:
            runs[container] = plain
    return runs
