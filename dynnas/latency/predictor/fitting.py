"""The fitting of a latency predictor: pieces and networks of a space, timed on the target within minutes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dynnas.errors import TargetError
from dynnas.latency.meter import LatencyMeter
from dynnas.latency.predictor.layers import ExitPath, piece_workload
from dynnas.latency.predictor.predictor import Agreement, LatencyPredictor
from dynnas.latency.rounds import TimingPlan, Workload
from dynnas.nn.config.network import NetworkConfig
from dynnas.nn.networks.layer_features import Piece, pieces_of
from dynnas.progress import Progress
from dynnas.space.architecture import Architecture
from dynnas.space.moves import largest, sample, smallest
from dynnas.space.space import Space

PIECES_FOR_EACH = 8
"""Number of pieces timed for each network of the fit, where the space has as many."""

LEAST_SAMPLES = 10

TURNS = 3
"""Number of turns into which each of two compared measurements is divided."""

_DRAWS = 30
"""Number of architectures drawn for each new one, before a space counts as exhausted."""


@dataclass(frozen=True)
class Calibration:
    """A predictor, with its errors on networks that it was not fitted to.

    Attributes:
        predictor: of multiples of the anchors' time.
        predicted_ms, measured_ms, again_ms: (networks,) held out: by the predictor, and measured twice.
        pieces, networks: measured for the fit.
    """

    predictor: LatencyPredictor
    predicted_ms: tuple[float, ...]
    measured_ms: tuple[float, ...]
    again_ms: tuple[float, ...]
    pieces: int
    networks: int

    @property
    def agreement(self) -> Agreement:
        """Return the agreement of predictions with the mean of both measurements."""
        measured = np.sqrt(np.array(self.measured_ms) * np.array(self.again_ms))
        return Agreement.of(np.array(self.predicted_ms), measured)

    @property
    def noise(self) -> Agreement:
        """Return the agreement of the second measurement with the first.

        No predictor can seem better than that.
        """
        return Agreement.of(np.array(self.again_ms), np.array(self.measured_ms))


def calibrate(
    space: Space,
    meter: LatencyMeter,
    channels: int,
    classes: int,
    *,
    samples: int = 50,
    held_out: int = 20,
    seconds: float = 60.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Calibration:
    """Fit a predictor to random networks of `space`, and compare it with measurements of others.

    Args:
        space: with a network.
        meter: with the anchors of `space`; its target is what the predictor is for.
        channels, classes: of the data.
        samples: networks to fit to.
        held_out: further networks, measured twice as a finished front is; at least 3.
        seconds: for timing all pieces and networks of the fit, in the same rounds.
        seed: draws the networks.
        progress: told of every network.

    Raises:
        TargetError: too few networks are asked for, or the space has fewer.
    """
    progress = progress or Progress()
    drawn = _draw_enough(space, samples, held_out, seed)
    rng = random.Random(f"ways {seed}")
    # By every exit: each is one more time to learn from, for a network that is paid for.
    ways = [
        way for each in drawn[:samples] for way in _ways(space.network_config(each, channels, classes), meter)
    ]
    others = [
        rng.choice(_ways(space.network_config(each, channels, classes), meter)) for each in drawn[samples:]
    ]
    pieces = _pieces(space, ways, PIECES_FOR_EACH * samples, channels, classes, seed)
    with progress.task("calibration", total=len(pieces) + len(ways) + held_out + 3) as task:
        workloads: list[Workload] = []
        parts: list[Piece | ExitPath] = [*pieces, *ways, *others]
        for part in parts:
            workloads.append(_workload(part, meter))
            task.advance(note="building")
        task.advance(note=f"timing for {seconds:.0f} s, and those held out")
        times, first, second = _time_in_turns(
            meter, workloads[:-held_out], workloads[-held_out:], seconds, seed
        )
        predictor = LatencyPredictor.fit(
            pieces,
            times[: len(pieces)],
            ways,
            times[len(pieces) :],
            meter.reference.environment,
        )
        task.advance(note="done")
    scale = meter.reference.anchor_ms
    predicted = [scale * predictor.predict(way.config)[way.exit] for way in others]
    return Calibration(
        predictor, tuple(predicted), tuple(first.tolist()), tuple(second.tolist()), len(pieces), samples
    )


def _draw_enough(space: Space, samples: int, held_out: int, seed: int) -> list[Architecture]:
    """Return the architectures to fit to and those held out.

    Raises:
        TargetError: too few are asked for, or the space has fewer.
    """
    if samples < LEAST_SAMPLES or held_out < 3:
        raise TargetError(
            f"calibrate: {samples} networks and {held_out} held out; "
            f"at least {LEAST_SAMPLES} and 3 are needed"
        )
    drawn = _draw(space, samples + held_out, seed)
    if len(drawn) < samples + held_out:
        raise TargetError(
            f"calibrate: {space.name} has hardly more than {len(drawn)} networks, and {samples + held_out} "
            "are needed; a space as small as that can be measured whole"
        )
    return drawn


def _workload(part: Piece | ExitPath, meter: LatencyMeter) -> Workload:
    return part.workload(meter.target) if isinstance(part, ExitPath) else piece_workload(part, meter.target)


def measure_twice(meter: LatencyMeter, workloads: Sequence[Workload]) -> tuple[np.ndarray, np.ndarray]:
    """Return milliseconds (workloads,) of two measurements, all workloads in the same rounds, in turns."""
    _, first, second = _time_in_turns(meter, (), workloads, 0.0, 0)
    return first, second


def _time_in_turns(
    meter: LatencyMeter, fitted: Sequence[Workload], others: Sequence[Workload], seconds: float, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the times of the networks to fit to, and two times in milliseconds of the others.

    The former are multiples of the anchors' time.

    In turns, for the machine may be in another state a minute later, and its networks do not feel that alike.
    """
    ratios: list[np.ndarray] = []
    first: list[list[float]] = []
    second: list[list[float]] = []
    for turn in range(TURNS):
        if fitted:
            ratios.append(meter.time(fitted, TimingPlan(seconds / TURNS, seed=seed + turn)))
        for measured in (first, second):
            share = meter.target.seconds * len(others) / TURNS
            found = meter.measure_images(others, share, seed=2 * turn + len(first))
            measured.append([latency.mean_ms for latency, _ in found])
    return _mean(ratios), _mean(first), _mean(second)


def _mean(turns: Sequence[Sequence[float]] | Sequence[np.ndarray]) -> np.ndarray:
    """Return the geometric mean of the turns."""
    return np.exp(np.log(np.array(turns)).mean(0)) if turns else np.empty(0)


def _draw(space: Space, count: int, seed: int) -> list[Architecture]:
    """Draw different architectures, the ends of the space first."""
    rng = random.Random(f"calibration {seed}")
    drawn = dict.fromkeys((smallest(space), largest(space)))
    for _ in range(_DRAWS * count):
        if len(drawn) >= count:
            break
        drawn[sample(space, rng)] = None
    return list(drawn)[:count]


def _ways(config: NetworkConfig, meter: LatencyMeter) -> list[ExitPath]:
    """Return the paths by every exit and by the head; a batch runs through the whole network."""
    exits = range(len(config.exits) + 1) if meter.target.batch == 1 else [len(config.exits)]
    return [ExitPath.of(config, exit) for exit in exits]


def _pieces(
    space: Space, ways: Sequence[ExitPath], most: int, channels: int, classes: int, seed: int
) -> list[Piece]:
    """Return the pieces of all `ways`, and of further networks until hardly any is new."""
    found = dict.fromkeys(piece for way in ways for piece in way.pieces)
    rng = random.Random(f"pieces {seed}")
    idle = 0
    while len(found) < most and idle < _DRAWS:
        before = len(found)
        config = space.network_config(sample(space, rng), channels, classes)
        found |= dict.fromkeys(piece for stretch in pieces_of(config) for piece in stretch)
        idle = idle + 1 if len(found) == before else 0
    return list(found)
