"""The last step of a search: its front timed together and tested, and the fronts of its controls tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from dynnas.candidates.candidate import Candidate as NetworkCandidate
from dynnas.latency.remote.timer import clock_of
from dynnas.latency.resources import measure_resources
from dynnas.latency.throttling import Throttling
from dynnas.metrics.accuracy import scored_model
from dynnas.metrics.artifact import (
    LEAST_AGREEMENT,
    Compared,
    artifact_runner,
    compare_answers,
    compiled_outputs,
    scored_artifact,
)
from dynnas.metrics.latency import spread_over_images
from dynnas.pareto.front import Front, ScoredArchitecture
from dynnas.pareto.noise import AGREEMENT, ARTIFACT_GAP, GAIN, GAIN_HIGH, GAIN_LOW, high, low, tested
from dynnas.pareto.objectives import Goal
from dynnas.progress import Progress
from dynnas.runtimes.runtime import Runner
from dynnas.search.cache import Cache, CachedEvaluator
from dynnas.search.evaluator import assess
from dynnas.search.evaluators.supernet import HeldOutEvaluator, SupernetEvaluator
from dynnas.settings.metrics import INT8_RATIO
from dynnas.space.gene import QUANTIZE
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
            twins = self._twins(candidates)
            workloads = [candidate.workload for candidate in candidates]
            others = [twin.workload for twin in twins.values()]
            target = evaluator.meter.target
            before = clock_of(target)
            latencies = evaluator.meter.measure_jointly([*workloads, *others]) if workloads else []
            throttling = Throttling(before, clock_of(target))
            twin_ms = dict(zip(twins, (each.mean_ms for each in latencies[len(workloads) :]), strict=True))
            elsewhere = [device.measure_jointly(candidates) for device in evaluator.devices]
            task.advance(len(front), note="timed together")
            artifacts = [candidate.artifact for candidate in candidates]
            resources = measure_resources(networks, workloads, target, artifacts) if workloads else []
            task.advance(len(front), note="energy and memory")
            runners = [artifact_runner(candidate) for candidate in candidates]
            members = []
            scores = Examination()
            for place, (member, candidate) in enumerate(zip(front, candidates, strict=True)):
                timed = {**spread_over_images(latencies[place]), **resources[place].metrics}
                for times in elsewhere:
                    timed |= times[place]
                if place in twin_ms:
                    ratio = latencies[place].mean_ms / twin_ms[place]
                    timed[INT8_RATIO] = ratio if candidate.quantized else 1 / ratio
                found = scores.of(candidate, runners[place])
                if found is None:
                    self.progress.message(_refusal(member.key, candidate.artifact.runtime))
                else:
                    members.append(replace(member, metrics={**member.metrics, **timed, **found}))
                task.advance(note="tested")
        if throttling.slowed:
            self.progress.message(f"warning: while the front was timed: {throttling}: dynnas measure")
        if None in runners:
            self.progress.message(
                f"scores are those of torch: runtime {artifacts[0].runtime} of {target.device} is not here"
            )
        for reason in dict.fromkeys(text for used in resources for text in (used.no_energy, used.no_memory)):
            if reason:
                self.progress.message(f"not measured: {reason}")
        return Front(tuple(members), front.objectives)

    def _twins(self, candidates: Sequence[NetworkCandidate]) -> dict[int, NetworkCandidate]:
        """Return the same networks in int8 where they are not, and the other way round, by their places.

        None where the space does not leave it to choose.
        """
        extractor = self.evaluator.extractor
        space = extractor.supernet.space
        if all(gene.name != QUANTIZE for gene in space.choices):
            return {}
        found = {}
        for place, candidate in enumerate(candidates):
            other = "none" if candidate.quantized else "int8"
            architecture = space.architecture({**candidate.architecture, QUANTIZE: other})
            found[place] = extractor.candidate(architecture)
        return found

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


def _refusal(key: str, runtime: str) -> str:
    return (
        f"{key} was taken off the front: compiled for runtime {runtime}, it does not give the network's "
        "answers; report it, and use another runtime"
    )


class Examination:
    """Scores networks of one front, cheapest first, each beside the one before it.

    It is the compiled network that is scored, where its runtime is installed here.
    """

    def __init__(self) -> None:
        self._before: Tensor | None = None

    def of(self, candidate: NetworkCandidate, runner: Runner | None) -> dict[str, float] | None:
        """Return the test scores, the intervals on both splits, and the gain on the test split.

        With a runner there are also its agreement with torch on the test split, and the difference of its
        score. It is None for a compiled network that is wrong: it must not ship.

        Args:
            candidate: of the network.
            runner: from `artifact_runner`.
        """
        dataset = candidate.dataset
        task = dataset.task
        test = compare_answers(candidate, runner, "test")
        if _is_wrong(test, candidate):
            return None
        search = compiled_outputs(candidate, runner, "search")
        metrics: dict[str, float] = {}
        for outputs, targets, named in (
            (search, dataset.search.targets.cpu(), str),
            (test.outputs, test.targets, tested),
        ):
            for name, ends in task.intervals(outputs, targets).items():
                metrics |= {low(named(name)): ends[0], high(named(name)): ends[1]}
        network = candidate.calibrated
        of_torch = scored_model(network, dataset, dataset.test, test.torch_outputs)
        scores = task.score_model(
            of_torch
            if runner is None
            else scored_artifact(runner, network, dataset, dataset.test, test.outputs, candidate.target.batch)
        )
        metrics |= {tested(name): value for name, value in scores.items()}
        if runner is not None:
            ranking = task.metrics[0].name
            same = test.same(task).tolist()
            metrics[AGREEMENT] = sum(same) / len(same)
            metrics[ARTIFACT_GAP] = scores[ranking] - task.score_model(of_torch)[ranking]
        before, self._before = self._before, test.outputs
        gain = None if before is None else task.gain(test.outputs, before, test.targets)
        return metrics | (dict(zip((GAIN, GAIN_LOW, GAIN_HIGH), gain, strict=True)) if gain else {})


def _is_wrong(compared: Compared, candidate: NetworkCandidate) -> bool:
    """Return whether a compiled network says something else than torch.

    In int8 or less than float32, or with the kernels of a graphics card, outputs differ; they must be
    numbers.
    """
    target = candidate.target
    if candidate.quantized or target.dtype != "float32" or target.host_device != "cpu":
        return not bool(compared.outputs.isfinite().all())
    return float(compared.near(candidate.dataset.task).double().mean()) < LEAST_AGREEMENT
