"""The contract of a format: `write` a network's files, and `load` one of them again.

A format is one class in one file, decorated by `register_format`, inside this package or outside it. Its
facts are class attributes. The command line lists formats, so a module imports torch and libraries inside
methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from dynnas.errors import ExportError
from dynnas.export.formats import FORMATS

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    Outputs = tuple[np.ndarray, np.ndarray | None]
    """Logits (B, classes) and, for a network with exits, the index (B,) of the exit that each image took."""

    Predict = Callable[[np.ndarray], Outputs]
    """A function that maps images (B, channels, R, R) float32 to outputs."""

ONE_IMAGE = "one image at a time, which leaves at the first confident exit"
ANY_BATCH = "any number of images at a time, with every exit computed"


@dataclass(frozen=True)
class ModelFile:
    """A file that can be run.

    Attributes:
        file: its name in the bundle; for a format of packages that of a folder.
        batch: images that it takes at a time, None for any number.
        use: what it is for.
        python: how to run it on `image`.
    """

    file: str
    batch: int | None
    use: str
    python: str


class Format(ABC):
    """A format in which a network ships; its attributes are its facts.

    Attributes:
        name: as in `export_model(format=...)`.
        models: the files that can be run, in the order in which they are compared with the network.
        example: lines of Python that load it from the bundle's folder and run it on `image`.
        cascades: whether it takes cascades of networks as well.
        branches_at_gates: whether its file for one image skips what gates leave out; else all is computed.
        branches_at_exits: whether its file for one image skips what exits leave out.
        script: whether a script that needs little to be installed is written beside it.
        exact: whether files give the numbers of the network, up to rounding.
        details: what else the manifest says.
    """

    name: ClassVar[str]
    models: ClassVar[tuple[ModelFile, ...]]
    example: ClassVar[tuple[str, ...]]
    cascades: ClassVar[bool] = True
    branches_at_gates: ClassVar[bool] = False
    branches_at_exits: ClassVar[bool] = True
    script: ClassVar[bool] = False
    exact: ClassVar[bool] = True
    details: ClassVar[Mapping[str, int | str]] = {}

    @property
    def runs_here(self) -> bool:
        """Return whether this system runs the files; if not, `load` evaluates them, and none is timed."""
        return True

    @abstractmethod
    def write(self, network: Any, folder: Path, metadata: Mapping[str, str]) -> None:
        """Put the files into a folder.

        Args:
            network: on a CPU in eval mode; a cascade if the format takes them.
            folder: exists and is empty.
            metadata: what the files should say of themselves, as far as they can: class names, normalisation.

        Raises:
            MissingExtraError: a package is not installed.
        """

    @abstractmethod
    def load(self, path: Path) -> Predict:
        """Make one of `models` ready to run."""

    def in_int8(self, images: Tensor) -> Format:
        """Return the same format for networks quantised to int8.

        Args:
            images: training images (N, channels, H, W), prepared for the network, by which it is quantised.

        Raises:
            ExportError: it has none.
        """
        raise ExportError(
            f"export: the format {self.name} has no int8, and this network is in int8; it ships as onnx or "
            "litert"
        )

    def load_like(self, path: Path, network: Any) -> Predict:
        """Make one of `models` ready to run, where the file alone does not tell the class of `network`."""
        return self.load(path)

    def lines(self, network: Any) -> tuple[str, ...]:
        """Return the lines of Python that load `network` from the bundle's folder."""
        return self.example


def predict_by(run: Callable[[np.ndarray], Mapping[str, np.ndarray]]) -> Predict:
    """Return what `Format.load` makes of a function from images to outputs by their names."""

    def predict(images: np.ndarray) -> Outputs:
        outputs = run(images)
        return outputs["logits"], outputs.get("exit")

    return predict


FormatClass = TypeVar("FormatClass", bound=type[Format])


def register_format(format: FormatClass) -> FormatClass:
    """Return a class of `Format` after entering it under its name: a decorator.

    Raises:
        ValueError: the name is taken.
    """
    FORMATS.register(format.name)(format)
    return format


def get_format(name: str) -> Format:
    """Return the format of that name.

    Raises:
        ExportError: there is none; says which there are.
    """
    return FORMATS[name]()


def predict_with(module: Callable[[Any], object]) -> Predict:
    """Return a function that runs a torch module that gives logits or (logits, exit)."""
    import torch

    @torch.no_grad()
    def predict(images: np.ndarray) -> Outputs:
        outputs: Any = module(torch.from_numpy(images))
        logits, exits = outputs if isinstance(outputs, tuple) else (outputs, None)
        return logits.numpy(), None if exits is None else exits.numpy()

    return predict
