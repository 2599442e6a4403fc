"""Layers that run one of several alternatives for an image, and so become real branches where they stand.

A layer declares its branches by three methods: `ways` says how many alternatives there are, `votes` decides
between them for one image, and `alternative` runs one. Gates (`dynnas.nn.gates.gate`) and early exits
(`dynnas.nn.exits.early_exits`) do so. The maker of a graph supplies a `BranchMode`, whose `run` is called in
the place of each such layer, wherever in a network it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from dynnas.nn.context import Contextual
from dynnas.nn.gates.state import Carried, Flow


class Branching(Contextual):
    """A layer that runs one of several alternatives for an image.

    Attributes:
        carried: what it reads beside its input, or hands on to later layers.
    """

    carried: tuple[Carried, ...] = ()

    @property
    def can_branch(self) -> bool:
        """False for one that was built with a single alternative."""
        return True

    def branches_on(self, flow: Flow) -> bool:
        """Tell whether an image can take either of several branches here."""
        return True

    def ways(self) -> int:
        """Return the number of alternatives, which `votes` and `alternative` number."""
        raise NotImplementedError

    def votes(self, flow: Flow) -> tuple[Tensor, Flow]:
        """Decide for one image.

        Returns:
            (1, ways): the image takes the largest, of equals the first. And what the alternatives take: the
            flow itself, with values beside it, or with another map.
        """
        raise NotImplementedError

    def alternative(self, flow: Flow, index: int) -> Flow:
        """Run an alternative for images that all take it, on the flow that `votes` gave."""
        raise NotImplementedError


@dataclass(frozen=True)
class BranchMode:
    """A mode of layers that branch.

    Attributes:
        run: what is called in the place of a layer that branches; None where layers run themselves.
    """

    run: Callable[[Branching, Flow], Flow] | None = None
