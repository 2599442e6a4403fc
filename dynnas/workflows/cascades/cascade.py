"""The command `dynnas cascade`: chains of networks, scored by predictions; the best are measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from dynnas.documents import provenance_digest
from dynnas.errors import StudyError, TaskError
from dynnas.files import atomic_write
from dynnas.latency.cascades import Overhead, measure_overhead, workload_of
from dynnas.latency.dependent import IMAGES_OF_A_WAY, TIMES_AS_LONG, representative
from dynnas.latency.meter import LatencyMeter
from dynnas.latency.rounds import Workload
from dynnas.metric import Metric
from dynnas.metrics.latency import spread_over_images
from dynnas.nn.config.network import NetworkConfig
from dynnas.nn.networks.network import Network
from dynnas.pareto.contribution import hypervolume, most_useful, non_dominated, reference_of
from dynnas.pareto.front import ScoredArchitecture
from dynnas.progress import Progress
from dynnas.runtimes.chaining import Answering, chain
from dynnas.search.cascades import PredictionMatrix, best_chains, score_chain
from dynnas.search.evaluators.supernet import open_meter
from dynnas.search.storage.locks import study_lock
from dynnas.study.predictions import Source, predictions
from dynnas.study.records.cascades import Cascaded, Cascades
from dynnas.study.study import Study
from dynnas.workflows.cascades.chained import Chained, Said, by_way, check_task, milliseconds

COSTS = ("latency_ms", "macs")

SCORED = 64
"""The number of chains that the task scores, of those that are best by the quality of their answers."""

IMAGES = 128
"""Number of images on which a cascade is timed: single images are slow or fast by the networks they pass."""


def cascade_study(
    study: Study,
    *,
    size: int = 2,
    keep: int = 10,
    by: Literal["latency_ms", "macs"] | None = None,
    weights: Literal["inherited", "best"] = "inherited",
    progress: Progress | None = None,
) -> Cascades:
    """Chain the networks of a study's front, and keep the chains that make the front better.

    All pairs at every useful threshold, and all triples on a grid of thresholds, are judged on the search
    split by the mean quality of the answers, from what each network says of its images; that is computed
    once. The best of them get the task's score. Of those that nothing beats, the `keep` that add most to the
    hypervolume are tested once and timed. They join the study. Interrupted, the same call goes on.

    Args:
        study: with a finished front.
        size: networks in the longest chain: 2 or 3. Triples have more thresholds to fit: look at their test
            scores.
        keep: the largest number of cascades to keep.
        by: the cost beside the score; by what the study was searched for if None.
        weights: of the networks, as `Study.weights_of` takes them.
        progress: told of every step.

    Raises:
        StudyError: there is no finished front of two networks, the task does not say how sure or how good an
            answer is, networks do not answer in one shape, another process drives the study, or it was
            measured in another environment.
        TargetError: the target runs no cascades, or cannot be used on this machine.
        TrainingError: the supernet is not trained.
    """
    if study.space.table:
        raise StudyError(f"{study.name}: a study of a table has no networks to chain")
    if not study.finished:
        raise StudyError(f"{study.name}: there is no finished front yet; let its search come to an end")
    if len(study.front) < 2:
        raise StudyError(f"{study.name}: the front has one network, and a cascade needs two; search on")
    with study_lock(study.folder.lock, f"study {study.folder.path}"):
        return _Cascading(study, size, keep, by or _cost_of(study), weights, progress or Progress()).run()


def _cost_of(study: Study) -> Literal["latency_ms", "macs"]:
    """Return the first cost that was searched for.

    Any cost that is no number of operations counts as time.
    """
    names = [one.name for one in study.front.objectives if one.direction == "minimize"]
    return "macs" if names and names[0] in ("macs", "expected_macs") else "latency_ms"


@dataclass(frozen=True)
class _Cascading:
    study: Study
    size: int
    keep: int
    by: Literal["latency_ms", "macs"]
    weights: str
    progress: Progress

    def run(self) -> Cascades:
        """Score, choose, test and save the cascades; then time them, and save again."""
        check_task(self.sources[0], self.progress)
        chosen = self.chosen()
        known = {one.key: one for one in self._before}
        if known.keys() >= {one.key for one in chosen} and all(one.measured for one in known.values()):
            timed = [replace(one, metrics={**known[one.key].metrics, **one.metrics}) for one in chosen]
            return self._written(replace(chosen, members=tuple(timed)))
        self._written(chosen)
        return self._written(replace(chosen, members=self.measured(chosen.members)))

    def _written(self, cascades: Cascades) -> Cascades:
        atomic_write(self.study.folder.cascades, cascades.to_json())
        return cascades

    @cached_property
    def members(self) -> tuple[ScoredArchitecture, ...]:
        """Return the front's members, the fastest first."""
        return tuple(sorted(self.study.front, key=lambda member: milliseconds(member)))

    @cached_property
    def configs(self) -> tuple[NetworkConfig, ...]:
        """The configs of the members; everything below keeps their order."""
        extractor = self.study.extractor
        return tuple(extractor.candidate(member.architecture).config for member in self.members)

    @cached_property
    def ms(self) -> list[np.ndarray]:
        """Milliseconds of each member to each of its exits and to its head."""
        known = self.study.latencies
        return [
            by_way(member, config, known.get(member.key))
            for member, config in zip(self.members, self.configs, strict=True)
        ]

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """The sources of the members' predictions."""
        study = self.study
        return tuple(
            Source(study, member.key, study.weights_of(member.key, self.weights)) for member in self.members
        )

    @cached_property
    def networks(self) -> tuple[Network, ...]:
        """Return the networks, calibrated, in eval mode."""
        return tuple(source.network() for source in self.sources)

    @cached_property
    def meter(self) -> LatencyMeter:
        """The meter on the study's scale."""
        return open_meter(self.study.folder.anchors, self.study.space, self.study.dataset)

    @cached_property
    def answering(self) -> Answering:
        """The shape in which all members answer."""
        shapes = []
        with self.progress.task("predictions for the search split", total=len(self.sources)) as task:
            for source in self.sources:
                shapes.append(predictions(source, "search", self.progress).outputs.shape[1:])
                task.advance(note=source.key)
        try:
            return Answering.of(self.study.dataset.task, shapes)
        except TaskError as error:
            raise StudyError(f"{self.study.name}: {error}") from error

    @cached_property
    def searched(self) -> Chained:
        """The members on the search split."""
        return Chained(self.sources, "search", self.answering, self.progress)

    @cached_property
    def on_search(self) -> dict[int, Said]:
        """Return what every member says of the search split."""
        return self.searched.said(range(len(self.members)))

    @cached_property
    def score(self) -> Metric:
        """Return the score beside the cost: the task's first that was searched for, else its first."""
        searched = {objective.name for objective in self.study.front.objectives}
        metrics = self.study.dataset.task.metrics
        return next((metric for metric in metrics if metric.name in searched), metrics[0])

    def _gain(self, scores: Mapping[str, float]) -> float:
        """Return the score as what is to be large."""
        value = scores[self.score.name]
        return value if self.score.direction == "maximize" else -value

    @cached_property
    def made_of(self) -> str:
        """Return everything that scores depend on, except the overhead of chains, which is kept with them."""
        digests = {source.key: source.digest("search") for source in self.sources}
        environment = self.meter.reference.environment
        ms = [each.tolist() for each in self.ms]
        return provenance_digest({**digests, "ms": str(ms), "environment": environment})

    @cached_property
    def _before(self) -> Cascades:
        """Return the cascades that were made before of the same networks.

        There are none if they were of other networks.
        """
        before = self.study.cascades
        return before if before.made_of == self.made_of else Cascades()

    @cached_property
    def overhead(self) -> Overhead:
        """The overhead of a chain over its networks, measured once for a front."""
        if before := self._before.overhead:
            (leave,), later, resize = (before[name] for name in ("leave", "later", "resize"))
            return Overhead(leave, tuple(later), tuple(resize))
        with self.progress.task("timing pairs of networks", total=1) as task:
            found = measure_overhead(self.networks, self.study.dataset, self.meter, self.answering)
            task.advance()
        return found

    def pool(
        self,
        said: Mapping[int, Said],
        by: str,
        ms: Sequence[np.ndarray] | None = None,
    ) -> PredictionMatrix:
        """Return the members with their predictions for some images.

        Members without predictions are left empty.

        Args:
            said: by member. by: a cost. ms: in place of the known ones.
        """
        images = len(next(iter(said.values())).exits)
        shape = (len(self.members), images)
        confidence, right, spent = np.zeros(shape, np.float32), np.zeros(shape), np.zeros(shape)
        for row, one in said.items():
            confidence[row], right[row] = one.confidence, one.quality
            spent[row] = one.macs if by == "macs" else (ms or self.ms)[row][one.exits]
        size = tuple(config.shape[1:] for config in self.configs)
        extra = Overhead.nothing(len(self.members)) if by == "macs" else self.overhead
        return PredictionMatrix(confidence, right, spent, size, extra)

    @cached_property
    def pools(self) -> dict[str, PredictionMatrix]:
        """Return all members on the search split, for every cost."""
        return {by: self.pool(self.on_search, by) for by in COSTS}

    def chosen(self) -> Cascades:
        """Return the cascades to keep, tested."""
        offered, costs = self._offered()
        scored = [self._cascaded(*each) for each in offered]
        points = np.array([[self._gain(one.metrics), cost] for one, cost in zip(scored, costs, strict=True)])
        points = points.reshape(-1, 2)
        alone = [self._gain(self.searched.score([row])) for row in range(len(self.members))]
        known = np.stack([np.array(alone), self.pools[self.by].cost.mean(axis=1)], axis=1)
        reference = reference_of(np.concatenate([known, points]))
        kept = np.array(most_useful(known, points, reference, self.keep), dtype=int)
        kept = kept[points[kept, 1].argsort()]
        return Cascades(
            members=tuple(self.tested([scored[row] for row in kept])),
            score=self.score.name,
            by=self.by,
            front=tuple(member.key for member in self.study.front),
            made_of=self.made_of,
            overhead={
                "leave": [self.overhead.leave],
                "later": list(self.overhead.later),
                "resize": list(self.overhead.resize),
            },
            reference=reference,
            hypervolumes={
                "front": hypervolume(known, reference),
                "with cascades": hypervolume(np.concatenate([known, points[kept]]), reference),
            },
        )

    def _offered(self) -> tuple[list[tuple[list[int], list[float]]], np.ndarray]:
        """Return the chains that the task is to score, as members and thresholds, and their costs.

        They are the best by the mean quality of answers, which is known of all chains at once. A score of all
        images together, such as the mean of intersections over unions, is not.
        """
        pool = self.pools[self.by]
        known = np.stack([pool.right.mean(axis=1), pool.cost.mean(axis=1)], axis=1)
        offered = best_chains(pool, self.size)
        points = np.concatenate([chains.points for chains in offered])
        chains = [
            (one.members[row].tolist(), one.thresholds[row].tolist())
            for one in offered
            for row in range(len(one))
        ]
        best = non_dominated(np.concatenate([known, points]))[len(known) :].nonzero()[0]
        reference = reference_of(np.concatenate([known, points[best]]))
        few = best[most_useful(known, points[best], reference, max(SCORED, self.keep))]
        few = np.array(sorted(few, key=lambda row: chains[row][0]), dtype=int)  # outputs are read seldom
        return [chains[row] for row in few], points[few, 1]

    def _cascaded(self, rows: Sequence[int], thresholds: Sequence[float]) -> Cascaded:
        costs = {by: score_chain(pool, rows, thresholds) for by, pool in self.pools.items()}
        _, _, stage = costs["latency_ms"]
        sizes = [self.members[row].metrics for row in rows]
        return Cascaded(
            networks=tuple(self.members[row].key for row in rows),
            weights=tuple(self.sources[row].weights for row in rows),
            thresholds=tuple(thresholds),
            shares=tuple((np.bincount(stage, minlength=len(rows)) / len(stage)).tolist()),
            shape=self.answering.shape,
            metrics={
                **self.searched.score(rows, thresholds, stage),
                "latency_ms": float(costs["latency_ms"][1].mean()),
                "expected_macs": float(costs["macs"][1].mean()),
                "macs": sum(size["macs"] for size in sizes),
                "params": sum(size["params"] for size in sizes),
            },
        )

    def _rows(self, cascaded: Cascaded) -> list[int]:
        keys = [member.key for member in self.members]
        return [keys.index(key) for key in cascaded.networks]

    def tested(self, cascades: Sequence[Cascaded]) -> list[Cascaded]:
        """Return the cascades with test scores; no test image had a part in their thresholds."""
        if not cascades:
            return []
        tested = Chained(self.sources, "test", self.answering, self.progress)
        rows = sorted({row for one in cascades for row in self._rows(one)})
        pool = self.pool(tested.said(rows), self.by)
        found = []
        for one in cascades:
            _, _, stage = score_chain(pool, self._rows(one), one.thresholds)
            scores = tested.score(self._rows(one), one.thresholds, stage)
            found.append(_with(one, **{f"test_{name}": value for name, value in scores.items()}))
        return found

    def measured(self, cascades: Sequence[Cascaded]) -> tuple[Cascaded, ...]:
        """Return the cascades with the times of whole chains, and of their networks in the same rounds."""
        dataset, target = self.study.dataset, self.meter.target
        runs = []
        for one in cascades:
            rows = self._rows(one)
            members = [self.networks[row] for row in rows]
            built = chain(members, one.thresholds, one.networks, dataset.size, self.answering)
            ways = self._ways(rows, one.thresholds)
            images = representative(ways, IMAGES)
            runs.append(workload_of(built, dataset, images, target, ways[images]))
        alone = self._alone({row for one in cascades for row in self._rows(one)})
        workloads = [*runs, *alone.values()]
        with self.progress.task("timing cascades", total=len(workloads)) as task:
            seconds = TIMES_AS_LONG * target.seconds * len(workloads)
            timed = [latency for latency, _ in self.meter.measure_images(workloads, seconds)]
            task.advance(len(workloads))
        ms = [values.copy() for values in self.ms]
        for (row, way), latency in zip(alone, timed[len(runs) :], strict=True):
            ms[row][way] = latency.mean_ms
        pool = self.pool(self.on_search, "latency_ms", ms)
        return tuple(
            _with(
                one,
                **spread_over_images(latency),
                joint_ms=score_chain(pool, self._rows(one), one.thresholds)[1].mean(),
            )
            for one, latency in zip(cascades, timed[: len(runs)], strict=True)
        )

    def _ways(self, rows: Sequence[int], thresholds: Sequence[float]) -> np.ndarray:
        """Number, for every search image, the path that it takes through the networks and their exits."""
        _, _, stage = score_chain(self.pools[self.by], rows, thresholds)
        ways = stage.copy()
        for place, row in enumerate(rows):
            exits = np.where(stage >= place, self.on_search[row].exits, 0)
            ways = ways * (1 + exits.max()) + exits
        return ways

    def _alone(self, rows: Collection[int]) -> dict[tuple[int, int], Workload]:
        """Return the members on some of the images that leave by each exit, by member and exit."""
        found = {}
        for row in sorted(rows):
            said = self.on_search[row]
            # Images that leave by one exit run the same work, but for what gates say of each.
            most = IMAGES if self.configs[row].decides else IMAGES_OF_A_WAY
            for way in np.unique(said.exits).tolist():
                images = np.flatnonzero(said.exits == way)[:most]
                paths = np.unique(said.macs[images], return_inverse=True)[1]
                found[row, way] = workload_of(
                    self.networks[row], self.study.dataset, images.tolist(), self.meter.target, paths
                )
        return found


def _with(cascaded: Cascaded, **metrics: float) -> Cascaded:
    new = {name: float(value) for name, value in metrics.items()}
    return replace(cascaded, metrics={**cascaded.metrics, **new})
