"""The last step of a search: its front timed together and tested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dynnas.progress import Progress
from dynnas.search.cache import Cache, CachedEvaluator
from dynnas.search.evaluator import assess
from dynnas.search.front import Candidate, Front
from dynnas.search.goal import Goal
from dynnas.search.supernet_evaluator import HeldOutEvaluator, SupernetEvaluator, spread_over_images


@dataclass(frozen=True)
class Finisher:
    """Gives the members of a front the metrics that only a finished front has."""

    evaluator: SupernetEvaluator
    cache: Cache
    progress: Progress

    def finish(self, front: Front) -> Front:
        """The same members, timed in the same rounds, and with their test accuracy."""
        evaluator = self.evaluator
        with self.progress.task("finishing the front", total=2 * len(front)) as task:
            networks = [evaluator.network(member.architecture) for member in front]
            subjects = [evaluator.subject(network) for network in networks]
            latencies = evaluator.meter.measure_jointly(subjects) if subjects else []
            task.advance(len(front), note="timed together")
            members = []
            for member, latency in zip(front, latencies, strict=True):
                metrics = {**member.metrics, **spread_over_images(latency), **self._tested(member)}
                members.append(replace(member, metrics=metrics))
                task.advance(note="tested")
        return Front(tuple(members), front.objectives)

    def _tested(self, member: Candidate) -> Mapping[str, float]:
        """The test accuracy, computed once for each network that was ever in a finished front."""
        tester = CachedEvaluator(
            HeldOutEvaluator(self.evaluator), self.cache, f"{self.evaluator.provenance} test"
        )
        return assess(tester, member.architecture, Goal.of(("test_accuracy",))).metrics
