"""The execution providers of ONNX Runtime, and which of them runs what of a graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dynnas.errors import TargetError

CPU = "CPUExecutionProvider"
RECORDING = "session.record_ep_graph_assignment_info"
"""The session's configuration key by which it keeps which provider runs which node."""


@dataclass(frozen=True)
class Provider:
    """An execution provider of ONNX Runtime.

    Attributes:
        name: as ONNX Runtime spells it, such as `XnnpackExecutionProvider`.
        source: where a build that has it comes from, for messages.
        options: its own settings.
        threads: the option of its own number of threads; None if it has none.
        of_model: gives its settings for one model, such as where to keep what is compiled of it.
    """

    name: str
    source: str
    options: Mapping[str, str] = field(default_factory=dict)
    threads: str | None = None
    of_model: Callable[[bytes], Mapping[str, str]] | None = None

    @property
    def word(self) -> str:
        """The name without its ending, such as `Xnnpack`."""
        return self.name.removesuffix("ExecutionProvider")

    def options_for(self, model: bytes, threads: int) -> dict[str, str]:
        """Return its settings for a serialised model and a number of threads."""
        own = self.of_model(model) if self.of_model else {}
        return {**self.options, **own, **({self.threads: str(threads)} if self.threads else {})}


@dataclass(frozen=True)
class Placement:
    """The places where the nodes of a graph run.

    Attributes:
        provider: the one that was asked for.
        nodes: for each provider, how many nodes of each operator it runs; branches of an `If` included.
    """

    provider: str
    nodes: Mapping[str, Mapping[str, int]]

    @property
    def total(self) -> int:
        """The number of nodes."""
        return sum(sum(counts.values()) for counts in self.nodes.values())

    @property
    def elsewhere(self) -> int:
        """The number of nodes that the provider leaves to the CPU."""
        return self.total - sum(self.nodes.get(self.provider, {}).values())

    def __str__(self) -> str:
        """Return in words what runs where."""
        word = self.provider.removesuffix("ExecutionProvider")
        left: Counter[str] = Counter()
        for provider, counts in self.nodes.items():
            if provider != self.provider:
                left.update(counts)
        ran = f"{word} runs {self.total - self.elsewhere} of {self.total} nodes"
        if not left:
            return ran
        return f"{ran}; on the CPU: " + ", ".join(f"{count} {op}" for op, count in sorted(left.items()))


def placement_report(runner: object) -> dict[str, Any] | None:
    """Return the placement of a runner's graph as JSON; None if its runtime has no execution providers."""
    placement = getattr(runner, "placement", None)
    return {"provider": placement.provider, "nodes": placement.nodes} if placement is not None else None


def placement_of(session: Any, provider: str) -> Placement:
    """Return where the nodes of a session run that was created with `RECORDING` on.

    Raises:
        TargetError: this ONNX Runtime does not tell.
    """
    if not hasattr(session, "get_provider_graph_assignment_info"):
        raise TargetError(
            "target: this version of onnxruntime does not tell which provider runs which node, so that a "
            "fall back to the CPU would go unseen; use onnxruntime 1.24 or newer"
        )
    nodes: dict[str, Counter[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        nodes.setdefault(part.ep_name, Counter()).update(node.op_type for node in part.get_nodes())
    return Placement(provider, {name: dict(counts) for name, counts in nodes.items()})
