"""The last step of a search: its front timed together and tested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dynnas.latency.resources import measure_resources
from dynnas.metrics.latency import spread_over_images
from dynnas.pareto.front import Front, ScoredArchitecture
from dynnas.pareto.objectives import Goal
from dynnas.progress import Progress
from dynnas.search.cache import Cache, CachedEvaluator
from dynnas.search.evaluator import assess
from dynnas.search.evaluators.supernet import HeldOutEvaluator, SupernetEvaluator


@dataclass(frozen=True)
class Finisher:
    """Gives the members of a front the metrics that only a finished front has."""

    evaluator: SupernetEvaluator
    cache: Cache
    progress: Progress

    def finish(self, front: Front) -> Front:
        """Return the same members, timed in the same rounds, tested, and with energy and memory where
        known.
        """
        evaluator = self.evaluator
        with self.progress.task("finishing the front", total=3 * len(front)) as task:
            candidates = [evaluator.extractor.candidate(member.architecture) for member in front]
            networks = [candidate.calibrated for candidate in candidates]
            workloads = [candidate.workload for candidate in candidates]
            latencies = evaluator.meter.measure_jointly(workloads) if workloads else []
            task.advance(len(front), note="timed together")
            artifacts = [candidate.artifact for candidate in candidates]
            target = evaluator.meter.target
            resources = measure_resources(networks, workloads, target, artifacts) if workloads else []
            task.advance(len(front), note="energy and memory")
            members = []
            for member, latency, used in zip(front, latencies, resources, strict=True):
                timed = {**spread_over_images(latency), **used.metrics}
                members.append(replace(member, metrics={**member.metrics, **timed, **self._tested(member)}))
                task.advance(note="tested")
        for reason in dict.fromkeys(text for used in resources for text in (used.no_energy, used.no_memory)):
            if reason:
                self.progress.message(f"not measured: {reason}")
        return Front(tuple(members), front.objectives)

    def _tested(self, member: ScoredArchitecture) -> Mapping[str, float]:
        """Return the scores on the test split, computed once for each network that was ever in a finished
        front.
        """
        tester = CachedEvaluator(
            HeldOutEvaluator(self.evaluator.extractor), self.cache, f"{self.evaluator.provenance} test"
        )
        metric = self.evaluator.extractor.dataset.task.metrics[0]
        return assess(tester, member.architecture, Goal.of({f"test_{metric.name}": metric.direction})).metrics
