"""The way from a network and a target to an artifact, and from an artifact to a runner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dynnas.errors import TargetError
from dynnas.runtimes.artifact import Artifact
from dynnas.runtimes.runtime import Runner, Runtime, get_runtime
from dynnas.settings.registries import RUNTIMES
from dynnas.settings.settings import TargetSettings

if TYPE_CHECKING:
    from torch import Tensor, nn


def resolve_runtime(target: TargetSettings) -> str:
    """Return the name, in the registry, of the runtime that `target` asks for.

    Raises:
        TargetError: the device is missing, or the runtime does not serve it in this type.
    """
    if target.remote:
        if target.runtime == "auto":
            raise TargetError(
                f"target: which runtime the device {target.device} offers is only known to who asked it; "
                "name one, or take `target` of the study's meter"
            )
        return target.runtime
    default = "torch" if target.device == "cuda" else "onnxruntime"
    name = default if target.runtime == "auto" else target.runtime
    get_runtime(name).check(target.device, target.dtype)
    if target.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise TargetError(
                "target: torch sees no CUDA device here; use device cpu, or install a CUDA build of torch"
            )
    return name


def compile_network(
    network: nn.Module,
    target: TargetSettings,
    shape: Sequence[int] | None = None,
    int8_images: Tensor | None = None,
) -> Artifact:
    """Fold and compile a copy of `network` for `target`.

    The artifact is timed, sent to its device and shipped.

    Args:
        network: calibrated; a staged network, a cascade, or any other module.
        target: where it will run.
        shape: (channels, height, width) of an image; a staged network and a cascade say it themselves.
        int8_images: training images (N, channels, H, W), prepared for the network, to quantise it to int8 by.

    Raises:
        TargetError: the device is missing, the runtime does not serve it in this type, or the network cannot
            be compiled so.
        MissingExtraError: the runtime is not installed.
    """
    from dynnas.runtimes.cascade import Cascade
    from dynnas.runtimes.plain import as_compilable

    runtime = get_runtime(resolve_runtime(target))
    if isinstance(network, Cascade) and target.batch > 1:
        raise TargetError(
            f"target: cascades decide image by image, and this target has {target.batch} images a call; "
            "use batch: 1"
        )
    compilable = as_compilable(network, shape)
    if int8_images is None:
        return runtime.compile(compilable, target)
    check_quantizes(runtime, target)
    return runtime.quantize(compilable, target, int8_images)


def check_quantizes(runtime: Runtime, target: TargetSettings) -> None:
    """Check that a runtime quantises networks to int8 for a target.

    Raises:
        TargetError: it does not.
    """
    if "int8" not in runtime.quantizations:
        able = [name for name in RUNTIMES if "int8" in get_runtime(name).quantizations]
        raise TargetError(
            f"target.quantize: runtime {runtime.name} has no int8; leave it out, or use runtime "
            f"{' or '.join(able)}"
        )
    if target.batch > 1 or target.dtype != "float32":
        raise TargetError(
            f"target.quantize: int8 runs one image a call beside float32, and the target says {target.batch} "
            f"images of {target.dtype}; leave out quantize, or batch and dtype"
        )


def load_artifact(artifact: Artifact, threads: int = 1) -> Runner:
    """Make an artifact ready to run on this machine.

    Args:
        artifact: from `compile_network`, in this process or elsewhere.
        threads: CPU threads of each operator.

    Raises:
        TargetError: its runtime is not known here, or cannot run it.
        MissingExtraError: the runtime is not installed.
        Exception: it is damaged; the runtime's own error.
    """
    return get_runtime(artifact.runtime).load(artifact, threads)
