"""The command `dynnas calibrate`: a latency predictor for all studies of a space, or for one study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dynnas.data.load import load_data
from dynnas.errors import StudyError
from dynnas.files import atomic_write
from dynnas.language.study_space import StudySpace
from dynnas.latency.anchors import build_anchors
from dynnas.latency.meter import LatencyMeter
from dynnas.latency.predictor.fitting import Calibration, calibrate
from dynnas.latency.predictor.predictor import predictor_file
from dynnas.latency.remote.timer import resolve_target
from dynnas.nn.config.names import FIXED
from dynnas.progress import Progress
from dynnas.search.evaluators.supernet import open_meter
from dynnas.space.gene import QUANTIZE
from dynnas.space.space import Space
from dynnas.study.study import Study


@dataclass(frozen=True)
class Calibrated:
    """A fitted predictor with its trial, and the file in which searches find it."""

    calibration: Calibration
    path: Path

    @property
    def picture(self) -> Path:
        """Return the path of the plot of predicted against measured latency, beside the predictor."""
        return self.path.with_suffix(".png")


def calibrate_space(
    space: StudySpace,
    *,
    samples: int = 50,
    held_out: int = 20,
    seconds: float = 60.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Calibrated:
    """Fit a predictor that any later study of `space` in this environment will use; see `calibrate`.

    Raises:
        StudyError: a space of plain choices, of a class of one's own, or one with gates.
        TargetError: too few networks, or the target cannot be used on this machine.
        DataError: the file leaves channels or classes to the data, which cannot be read.
    """
    _check_layers(space)
    if space.network is None:
        raise StudyError(f"space {space.name!r}: a space of plain choices has no networks to time")
    _check_gates(space)
    channels, classes = space.network.channels, space.network.classes
    if channels is None or classes is None:
        dataset = load_data(space.settings.data, progress)
        channels, classes = dataset.channels, dataset.task.outputs
    target = resolve_target(space.settings.target)
    meter = LatencyMeter(target, build_anchors(space, target, channels, classes))
    path = predictor_file(space, channels, classes, meter.reference.environment)
    found = calibrate(
        space, meter, channels, classes,
        samples=samples, held_out=held_out, seconds=seconds, seed=seed, progress=progress,
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    return _kept(found, path)


def calibrate_study(
    study: Study,
    *,
    samples: int = 50,
    held_out: int = 20,
    seconds: float = 60.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Calibrated:
    """Fit a predictor on the scale of `study`, which its next search uses; see `calibrate`.

    Raises:
        StudyError: its latencies were measured in another environment, or its space has gates or is that of a
            class of one's own.
        TargetError: too few networks, or the target cannot be used on this machine.
    """
    _check_layers(study.space)
    dataset = study.dataset
    _check_gates(study.space)
    meter = open_meter(study.folder.anchors, study.space, dataset)
    found = calibrate(
        study.space, meter, dataset.channels, dataset.task.outputs,
        samples=samples, held_out=held_out, seconds=seconds, seed=seed, progress=progress,
    )  # fmt: skip
    return _kept(found, study.folder.predictor)


def _kept(found: Calibration, path: Path) -> Calibrated:
    atomic_write(path, found.predictor.to_json())
    return Calibrated(found, path)


def _check_layers(space: Space) -> None:
    """Refuse networks of a class of one's own, or of a trained one, whose layers no table lists.

    Raises:
        StudyError: the space has such networks.
    """
    if space.model is not None:
        raise StudyError(
            f"space {space.name!r}: a latency predictor adds up the layers that a space file lists, and "
            "these networks are of a class; search without one, every candidate is timed then"
        )


def _check_gates(space: Space) -> None:
    """Refuse gates and int8, because a predictor adds up pieces in float32 that an image runs whole.

    Raises:
        StudyError: the space has gates, resolutions that are chosen for each image, or int8.
    """
    if any(gene.name == QUANTIZE for gene in space.genes):
        raise StudyError(
            f"space {space.name!r}: a latency predictor knows nothing of int8 (target.quantize); search "
            "without one, every candidate is timed then"
        )
    ungated = {"gate": ("none",), "choose": (FIXED,)}
    gated = [
        gene.name
        for gene in space.genes
        if (knob := gene.name.rpartition(".")[2]) in ungated and gene.values != ungated[knob]
    ]
    if gated:
        raise StudyError(
            f"space {space.name!r}: a latency predictor knows nothing of gates ({gated[0]}); "
            "search without one, every candidate is timed then"
        )
