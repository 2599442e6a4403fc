"""The last step of a search: its front timed together and tested, and the fronts of its controls tested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from dynnas.candidates.candidate import Candidate as NetworkCandidate
from dynnas.data.dataset import Dataset
from dynnas.latency.resources import measure_resources
from dynnas.metrics.accuracy import answers
from dynnas.metrics.latency import spread_over_images
from dynnas.pareto.front import Front, ScoredArchitecture
from dynnas.pareto.noise import GAIN, GAIN_HIGH, GAIN_LOW, high, low, tested
from dynnas.pareto.objectives import Goal
from dynnas.progress import Progress
from dynnas.search.cache import Cache, CachedEvaluator
from dynnas.search.evaluator import assess
from dynnas.search.evaluators.supernet import HeldOutEvaluator, SupernetEvaluator
from dynnas.study.controls import UNSELECTED, Controls


@dataclass(frozen=True)
class Finisher:
    """Gives the members of fronts the metrics that only a finished front has."""

    evaluator: SupernetEvaluator
    cache: Cache
    progress: Progress

    def finish(self, front: Front) -> Front:
        """Return the members timed in the same rounds, tested, and with energy and memory where known."""
        evaluator = self.evaluator
        with self.progress.task("finishing the front", total=3 * len(front)) as task:
            candidates = [evaluator.extractor.candidate(member.architecture) for member in front]
            networks = [candidate.calibrated for candidate in candidates]
            workloads = [candidate.workload for candidate in candidates]
            latencies = evaluator.meter.measure_jointly(workloads) if workloads else []
            elsewhere = [device.measure_jointly(candidates) for device in evaluator.devices]
            task.advance(len(front), note="timed together")
            artifacts = [candidate.artifact for candidate in candidates]
            target = evaluator.meter.target
            resources = measure_resources(networks, workloads, target, artifacts) if workloads else []
            task.advance(len(front), note="energy and memory")
            members = []
            scores = Examination(evaluator.extractor.dataset)
            for place, (member, candidate) in enumerate(zip(front, candidates, strict=True)):
                timed = {**spread_over_images(latencies[place]), **resources[place].metrics}
                for times in elsewhere:
                    timed |= times[place]
                members.append(replace(member, metrics={**member.metrics, **timed, **scores.of(candidate)}))
                task.advance(note="tested")
        for reason in dict.fromkeys(text for used in resources for text in (used.no_energy, used.no_memory)):
            if reason:
                self.progress.message(f"not measured: {reason}")
        return Front(tuple(members), front.objectives)

    def finish_controls(self, controls: Controls, front: Front) -> Controls:
        """Return the same controls with the members of their fronts and the first random networks tested."""
        chosen = {name: Front.of(group, front.objectives).members for name, group in controls.groups.items()}
        chosen["random"] = (*chosen.get("random", ()), *controls.random[:UNSELECTED])
        keys = {name: {member.key for member in members} for name, members in chosen.items()}
        total = len(set().union(*keys.values()))
        with self.progress.task("testing the controls", total=total) as task:
            found: dict[str, Mapping[str, float]] = {}
            for member in (member for members in chosen.values() for member in members):
                if member.key not in found:
                    found[member.key] = self._tested(member)
                    task.advance()
        return Controls(
            **{
                name: tuple(
                    replace(member, metrics={**member.metrics, **found[member.key]})
                    if member.key in keys[name]
                    else member
                    for member in group
                )
                for name, group in controls.groups.items()
            }
        )

    def _tested(self, member: ScoredArchitecture) -> Mapping[str, float]:
        """Return the scores on the test split, computed once for each network that was ever in a front."""
        tester = CachedEvaluator(
            HeldOutEvaluator(self.evaluator.extractor), self.cache, f"{self.evaluator.provenance} test"
        )
        metric = self.evaluator.extractor.dataset.task.metrics[0]
        name = tested(metric.name)
        return {name: assess(tester, member.architecture, Goal.of({name: metric.direction})).metrics[name]}


class Examination:
    """Scores networks of one front, cheapest first, each beside the one before it."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._before: Tensor | None = None

    def of(self, candidate: NetworkCandidate) -> dict[str, float]:
        """Return the test scores, the intervals on both splits, and the gain on the test split."""
        task = self._dataset.task
        metrics: dict[str, float] = {}
        for split, named in ((self._dataset.search, str), (self._dataset.test, tested)):
            outputs = answers(candidate.calibrated, self._dataset, split).outputs
            targets = split.targets.to(outputs.device)
            if split is self._dataset.test:
                metrics |= {tested(name): value for name, value in task.score(outputs, targets).items()}
            for name, ends in task.intervals(outputs, targets).items():
                metrics |= {low(named(name)): ends[0], high(named(name)): ends[1]}
        gain = None if self._before is None else task.gain(outputs, self._before, targets)
        self._before = outputs
        return metrics | (dict(zip((GAIN, GAIN_LOW, GAIN_HIGH), gain, strict=True)) if gain else {})
