"""Networks from elsewhere, made for images of a shape and ready to be timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dynnas.errors import SpaceError, TargetError, require
from dynnas.latency.rounds import Workload
from dynnas.latency.runner import load_runner
from dynnas.runtimes.compile import compile_network
from dynnas.runtimes.cost import cost_of
from dynnas.runtimes.plain import PlainNetwork
from dynnas.settings.settings import TargetSettings
from dynnas.workflows.shelf.names import arguments_taken, make_network, maker_of

_CLASSES, _CHANNELS = ("num_classes", "classes"), ("in_chans", "in_channels")
ONNX = ".onnx"
"""End of the names of ONNX files."""

Shape = tuple[int, int, int]
Makers = Mapping[str, Callable[[], nn.Module] | None]
"""Networks by name; None where the name tells how the network is made."""


@dataclass(frozen=True)
class Made:
    """A network from elsewhere: a module, or an ONNX file.

    Attributes:
        name: by which it was named.
        shape: (channels, height, width) of its images.
        arguments: by which it was made of its name. named: whether its name tells how it is made.
    """

    name: str
    shape: Shape
    network: PlainNetwork | None = None
    file: Path | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    named: bool = True

    def workload(self, target: TargetSettings) -> Workload:
        """Make it ready to be timed on random images.

        Raises:
            TargetError: the target cannot run it.
            MissingExtraError: onnxruntime is not installed.
        """
        return self.workload_and_size(target)[0]

    def workload_and_size(self, target: TargetSettings) -> tuple[Workload, int]:
        """Make it ready to be timed, and say how many bytes its file has."""
        image = np.random.default_rng(0).normal(size=(target.batch, *self.shape)).astype(np.float32)
        if self.network is not None:
            artifact = compile_network(self.network, target)
            return Workload(load_runner(self.network, artifact, target), [image]), len(artifact.data)
        assert self.file is not None
        return Workload(_Session(self.file, target.threads), [image]), self.file.stat().st_size

    @property
    def options(self) -> tuple[str, ...]:
        """The options of `dynnas elastic` by which it becomes a space, its weights given."""
        arguments = [
            word for name, value in self.arguments.items() for word in ("--argument", f"{name}={value}")
        ]
        return ("--model", self.name, *arguments, "--input", "x".join(map(str, self.shape)))

    @property
    def metrics(self) -> dict[str, float]:
        """Multiply-adds and weights, where they are known."""
        if self.network is None:
            return {}
        cost = cost_of(self.network)
        return {"macs": float(cost.macs), "params": float(cost.params)}


def make(
    name: str,
    maker: Callable[[], nn.Module] | None,
    shape: Shape | None,
    outputs: int | None,
    target: TargetSettings,
    seed: int,
) -> Made:
    """Make a network, and run it once.

    Args:
        name: `timm:resnet18`, `package.module:function`, or a file `.onnx`.
        maker: makes it, if its name does not tell how.
        shape: (channels, height, width) of images; None for those that timm's networks and files say.
        outputs: classes of the data; None for the network's own.
        seed: draws its weights.

    Raises:
        SpaceError: it cannot be made, or cannot be run on such images.
        TargetError: the target cannot run it.
    """
    if maker is None and Path(name).suffix == ONNX:
        if target.remote or target.device != "cpu":
            raise TargetError(f"{name}: an ONNX file is timed on this machine's processor alone")
        return _onnx(name, shape, target)
    arguments: dict[str, Any] = {}
    called: Callable[..., Any] = maker or maker_of(name, "shelf", ", or a file .onnx")
    if maker is None:
        taken = arguments_taken(name, called)
        if outputs:
            arguments |= {each: outputs for each in _CLASSES if each in taken}
        if shape:
            arguments |= {each: shape[0] for each in _CHANNELS if each in taken}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = make_network(name, "shelf", arguments, called)
    shape = shape or _own_shape(name, module)
    network = PlainNetwork(module.eval(), shape, outputs or 0).eval()
    _run(name, network, shape, outputs)
    return Made(name, shape, network, arguments=arguments, named=maker is None)


def _own_shape(name: str, module: nn.Module) -> Shape:
    """Return the shape of images that a network of timm says."""
    config = getattr(module, "pretrained_cfg", None)
    found = config.get("input_size") if isinstance(config, Mapping) else None
    if not found:
        raise SpaceError(f"{name} does not say the size of its images; give --input, such as 3x224x224")
    channels, height, width = found
    return channels, height, width


def _run(name: str, network: PlainNetwork, shape: Shape, outputs: int | None) -> None:
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            output = network(images)
    except Exception as error:  # whatever its forward pass may raise
        raise SpaceError(
            f"{name} cannot be run on images {tuple(images.shape)}: {type(error).__name__}: "
            f"{next(iter(str(error).splitlines()), '')}; name a network for these images"
        ) from error
    if outputs and output.dim() == 2 and output.shape[1] != outputs:
        raise SpaceError(
            f"{name} gives {output.shape[1]} outputs, and the data ask for {outputs}; let the function take "
            "num_classes, or give one that makes a network for them"
        )


def _onnx(name: str, shape: Shape | None, target: TargetSettings) -> Made:
    file = Path(name)
    try:
        session = _Session(file, target.threads)
        shape = shape or session.shape
        session(np.zeros((target.batch, *shape), np.float32))
    except (OSError, RuntimeError, ValueError) as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)
        images = f" on images {(target.batch, *shape)}" if shape else ""
        raise SpaceError(f"{file}: cannot be run{images}: {said}") from error
    return Made(name, shape, file=file)


class _Session:
    """An ONNX file whose only input are images, ready to run.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file.
    """

    def __init__(self, file: Path, threads: int) -> None:
        ort = require("onnxruntime", "onnx")
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(
                file.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
            (self._image,) = self._session.get_inputs()
        except Exception as error:  # the runtime's own errors are of no common class
            if isinstance(error, OSError):
                raise
            raise ValueError(f"is no ONNX file with one input ({error})") from error

    @property
    def shape(self) -> Shape:
        """The shape of images that the file says.

        Raises:
            ValueError: it leaves it open.
        """
        found = tuple(self._image.shape[1:])
        if len(found) != 3 or not all(isinstance(size, int) for size in found):
            raise ValueError(f"takes images {self._image.shape}; give --input, such as 3x224x224")
        return found

    def __call__(self, images: np.ndarray) -> object:
        try:
            return self._session.run(None, {self._image.name: images})
        except Exception as error:
            raise ValueError(str(error)) from error
