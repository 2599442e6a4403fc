"""What a runtime is: how a network is made ready in it, and for which devices and arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dynnas.errors import TargetError
from dynnas.runtimes.cascade import Finished
from dynnas.settings.settings import TargetSettings


class Runner(Protocol):
    """A network made ready on its target: the thing that ships, called as it will be called."""

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """A call's images (batch, channels, R, R) float32 in host memory to logits (batch, classes) float32.

        Work is finished when it returns. At batch 1 a network with exits stops at the first confident one; a
        larger batch computes every exit, and hands out for each image what the first confident one says.
        """
        ...


@dataclass(frozen=True)
class Runtime:
    """A way to run networks.

    Attributes:
        name: as in `TargetSettings.runtime`.
        dtypes: what it computes in, for every device that it serves.
        build: folds and compiles a copy of a network, or of all networks of a cascade.
    """

    name: str
    dtypes: Mapping[str, tuple[str, ...]]
    build: Callable[[Finished, TargetSettings], Runner]

    def check(self, device: str, dtype: str) -> None:
        """See that it serves a device in a type.

        Raises:
            TargetError: it does not; says what it serves.
        """
        if device not in self.dtypes:
            raise TargetError(
                f"target: runtime {self.name} serves the device {' or '.join(self.dtypes)}, not {device}; "
                "use runtime auto, or one that does"
            )
        if dtype not in self.dtypes[device]:
            raise TargetError(
                f"target: runtime {self.name} on {device} computes in {' or '.join(self.dtypes[device])}, "
                f"not in {dtype}; change dtype or runtime"
            )
