"""The contract of a runtime: `compile(network, target) -> Artifact` and `load(artifact) -> Runner`.

A runtime is one class in one file, registered by `register_runtime`, inside this package or outside it (entry
point `dynnas.runtimes`). Its facts are class attributes, and the module is imported wherever runtimes are
listed, also on devices that have little more than numpy: import the library itself, torch and all that needs
them inside the methods.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, TypeVar

from dynnas.errors import TargetError, require
from dynnas.settings.registries import RUNTIMES

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from dynnas.nn.networks.network import Network
    from dynnas.runtimes.artifact import Artifact
    from dynnas.runtimes.plain import Compilable
    from dynnas.settings.settings import TargetSettings

BatchExecution = Literal["masked", "compacted"]
"""An execution of batches of any size. `masked`: every image runs through the whole network, at the dense
price. `compacted`: images that leave are taken out of the batch, and the rest goes on as a smaller one;
regrouping is part of the time.
"""


class Runner(Protocol):
    """A network made ready on its target, called as the shipped one will be called."""

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Map images (batch, channels, H, W) float32 in host memory to logits (batch, classes) float32.

        Work is finished when it returns. At batch 1 a network with exits stops at the first confident one; a
        larger batch computes every exit, and gives for each image the output of its first confident one.
        """
        ...


class BatchRunner(Protocol):
    """A network made ready on its target for batches of any size."""

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map images (B, channels, H, W) float32 in host memory to logits (B, classes) and exits (B,) int64.

        The exit of an image is its index, the number of exits for the head. Work is finished when it returns.
        """
        ...


class Runtime(ABC):
    """A runtime for networks; its attributes are its facts.

    Attributes:
        name: as in `TargetSettings.runtime`.
        dtypes: numeric types by device (`cpu`, `cuda`) that it computes in.
        package: the Python package that must be installed to run artifacts.
        extra: the extra of dynnas that brings it.
        rank: place in the order in which a device's runtimes are preferred, the lowest first.
        note: names the form of its artifacts in fingerprints of the environment; a number in it is raised
            when they become faster or slower.
        branches: whether one artifact skips what exits and gates leave out; else Python decides between its
            parts, or everything is computed and masked.
        regroups_gates: whether batches of any size are regrouped by what gates decide.
        portable: name of the runtime whose artifacts run on any processor, where this one's are right only on
            those like the one that compiled them.
        quantizations: of weights and activations, as in `TargetSettings.quantize`, by the method `quantize`.
    """

    name: ClassVar[str]
    dtypes: ClassVar[Mapping[str, tuple[str, ...]]]
    package: ClassVar[str]
    extra: ClassVar[str]
    rank: ClassVar[int] = 100
    note: ClassVar[str] = ""
    branches: ClassVar[bool] = False
    regroups_gates: ClassVar[bool] = False
    portable: ClassVar[str | None] = None
    quantizations: ClassVar[tuple[str, ...]] = ("none",)

    @abstractmethod
    def compile(self, network: Compilable, target: TargetSettings) -> Artifact:
        """Fold and compile a copy of `network`.

        Args:
            network: calibrated; its `config` says what it takes (see `dynnas.runtimes.plain.as_compilable`).
                A cascade comes with a batch of 1.
            target: its device is `cpu` or `cuda` or a remote one, its dtype and batch those of the artifact.

        Raises:
            MissingExtraError: a package is not installed.
            TargetError: the network cannot be compiled so.
        """

    def quantize(self, network: Compilable, target: TargetSettings, images: Tensor) -> Artifact:
        """Fold, quantise to int8 and compile a copy of `network` for one image a call.

        Args:
            network: calibrated; no cascade.
            target: as of `compile`, with a batch of 1.
            images: training images (N, channels, H, W), prepared for it; their activations set the ranges.

        Raises:
            TargetError: this runtime does not quantise.
            MissingExtraError: a package is not installed.
        """
        raise TargetError(
            f"target: runtime {self.name} does not quantise; use runtime onnxruntime, onnxruntime_portable "
            "or litert"
        )

    @abstractmethod
    def load(self, artifact: Artifact, threads: int = 1) -> Runner:
        """Make an artifact ready to run.

        Args:
            artifact: from `compile`, in this process or elsewhere.
            threads: CPU threads of each operator.

        Raises:
            MissingExtraError: the runtime is not installed.
            TargetError: it cannot be run here.
            Exception: the artifact is damaged; the runtime's own error.
        """

    def run_batches(self, network: Network, target: TargetSettings, execution: BatchExecution) -> BatchRunner:
        """Fold and compile a copy of `network` for batches of any size.

        Raises:
            TargetError: this runtime does not run them.
        """
        raise TargetError(
            f"target: runtime {self.name} runs no batches of any size; use runtime onnxruntime or torch"
        )

    def can_run(self, device: str) -> bool:
        """Return whether it is installed here and serves `device`."""
        return device in self.dtypes and importlib.util.find_spec(self.package) is not None

    def version(self) -> str:
        """Return name, version and note, for fingerprints of the environment.

        Raises:
            MissingExtraError: it is not installed.
        """
        return f"{self.name} {require(self.package, self.extra).__version__}{self.note}"

    def check(self, device: str, dtype: str) -> None:
        """Check that it serves a device in a numeric type.

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


RuntimeClass = TypeVar("RuntimeClass", bound=type[Runtime])


def register_runtime(runtime: RuntimeClass) -> RuntimeClass:
    """Return a class of `Runtime` after entering it under its name: a decorator.

    Raises:
        ValueError: the name is taken.
    """
    return RUNTIMES.register(runtime.name)(runtime)


def get_runtime(name: str) -> Runtime:
    """Return the runtime of that name.

    Raises:
        TargetError: there is none; says which there are.
    """
    make: Callable[[], Runtime] = RUNTIMES[name]
    return make()


def offered_runtimes(device: str) -> list[str]:
    """Return the runtimes that are installed here for `device`, the one to prefer first."""
    return [name for name in RUNTIMES if get_runtime(name).can_run(device)]
