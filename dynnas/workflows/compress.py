"""The command `dynnas compress`: a pass over networks of a study, compared with the networks before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from dynnas.candidates.candidate import workload_of
from dynnas.compression import PASSES
from dynnas.compression.compress import CompressedModel, CompressionInput
from dynnas.errors import StudyError, TargetError, TrainingError
from dynnas.files import atomic_write
from dynnas.latency.latency import Latency
from dynnas.latency.meter import LatencyMeter
from dynnas.nn.layers.digest import weights_digest
from dynnas.nn.networks.network import Network
from dynnas.pareto.front import ScoredArchitecture
from dynnas.progress import Progress
from dynnas.runtimes.compile import compile_network, load_artifact
from dynnas.runtimes.cost import cost_of
from dynnas.search.evaluators.supernet import open_meter
from dynnas.search.storage.locks import study_lock
from dynnas.settings.settings import TargetSettings
from dynnas.study.records.compressed import Compressed, Figures, compressed_to_json
from dynnas.study.scores import artifact_scores, scores_of
from dynnas.study.study import Study
from dynnas.training.recipe import Recipe
from dynnas.training.train_network import fresh_network
from dynnas.training.weights.files import save_network
from dynnas.workflows.train import teachers_for

BEFORE, AFTER = "before.onnx", "model.onnx"

PORTABLE = TargetSettings(runtime="onnxruntime_portable")
"""The target of the files that are kept, whose sizes are compared."""


def compress_members(
    study: Study,
    members: Sequence[ScoredArchitecture],
    method: str,
    recipe: Recipe,
    *,
    weights: str = "best",
    options: Mapping[str, float | str] | None = None,
    progress: Progress | None = None,
) -> tuple[Compressed, ...]:
    """Run a pass over `members` of a study, one after the other, and add the results to the study.

    Scores are of the form that ships, on the search and the test split; latencies before and after are
    measured in the same rounds, on the study's scale. What was done before is not done again. Interrupted,
    the same call goes on.

    Args:
        study: with a trained supernet.
        members: of its front, or other candidates.
        method: a name in `dynnas.compression.PASSES`.
        recipe: of the tuning.
        weights: to begin with, as `Study.weights_of` takes them.
        options: of the pass, in place of its defaults.
        progress: told of every step.

    Raises:
        StudyError: there is no such pass, option or training, or another process drives the study.
        TargetError: the pass cannot be timed on the study's target.
        TrainingError: as trainings do, or the pass has nothing to do on a network.
        MissingExtraError: onnx or onnxruntime is not installed.
    """
    if method not in PASSES:
        raise StudyError(f"compress: found pass {method!r}, allowed are {', '.join(PASSES)}")
    chosen = {**PASSES[method].options, **(options or {})}
    if unknown := chosen.keys() - PASSES[method].options.keys():
        raise StudyError(
            f"compress: pass {method} has no option {', '.join(sorted(unknown))}; "
            f"it has {', '.join(PASSES[method].options)}"
        )
    with study_lock(study.folder.lock, f"study {study.folder.path}"):
        compressor = _Compressor(study, method, recipe, chosen, progress or Progress())
        return tuple(compressor.compress(member, weights) for member in members)


@dataclass(frozen=True)
class _Compressor:
    study: Study
    method: str
    recipe: Recipe
    options: Mapping[str, float | str]
    progress: Progress

    @cached_property
    def meter(self) -> LatencyMeter:
        meter = open_meter(self.study.folder.anchors, self.study.space, self.study.dataset)
        target = meter.target
        if PASSES[self.method].compiles and (target.device != "cpu" or target.batch > 1):
            raise TargetError(
                f"compress: an int8 graph runs on this machine's CPU, one image a call; the study's target "
                f"is {target.device} with {target.batch} images a call, so it could not be timed beside float"
            )
        return meter

    def compress(self, member: ScoredArchitecture, weights: str) -> Compressed:
        study, meter = self.study, self.meter
        trained = study.weights_of(member.key, weights)
        source_name = trained.name if trained else "inherited"
        recipe = self.recipe if PASSES[self.method].trains else None
        facts = [dict(self.options), asdict(recipe) if recipe else None, source_name]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
        name = f"{member.key}-{self.method}-{digest}"
        done = next((each for each in study.compressed if each.name == name), None)
        if done and (study.folder.path / done.after.file).exists():
            self.progress.message(f"{name}: done before")
            return done
        folder = study.folder.compressed_files / name
        folder.mkdir(parents=True, exist_ok=True)
        network = study.trained_network(trained) if trained else study.network(member.key)
        self.progress.message(f"{name}: began with weights {source_name}")
        source = CompressionInput(
            network=network,
            dataset=study.dataset,
            recipe=self.recipe,
            teacher=teachers_for(study, recipe.teacher) if recipe else None,
            folder=folder,
            options=self.options,
            progress=self.progress,
            device=study.settings.target.host_device,
            fresh=partial(self._fresh, member.key, network),
        )
        compressed = PASSES[self.method].run(source)
        before, after = self._figures(network, compressed, folder)
        result = Compressed(
            name=name,
            key=member.key,
            method=self.method,
            source=source_name,
            options=self.options,
            settings=asdict(recipe) if recipe else None,
            metric=study.dataset.task.metrics[0],
            before=before,
            after=after,
            controls={title: scores_of(each, study.dataset) for title, each in compressed.controls.items()},
            details=compressed.details,
            environment=meter.reference.environment,
            file=self._inside(save_network(compressed.network, folder)) if compressed.network else None,
            weights_digest=weights_digest(compressed.network) if compressed.network else None,
        )
        others = [each for each in study.compressed if each.name != name]
        atomic_write(study.folder.compressed, compressed_to_json([*others, result]))
        return result

    def _fresh(self, key: str, like: Network, seed: int) -> Network:
        """Return a network like another one with the weights that `seed` draws."""
        if isinstance(like, Network):
            return fresh_network(like.config, seed)
        found = self.study.fresh_network(key, seed)
        shapes = [[value.shape for value in each.state_dict().values()] for each in (found, like)]
        if shapes[0] != shapes[1]:
            raise TrainingError(
                f"compress: pass {self.method} begins with new weights, and these of {key} belong to a "
                "network that has lost channels, which its class does not make; give --weights inherited"
            )
        return found

    def _figures(
        self, network: Network, compressed: CompressedModel, folder: Path
    ) -> tuple[Figures, Figures]:
        """Return the figures of the network before the pass and after it."""
        study = self.study
        workload = workload_of(network, study.dataset, self.meter.target)
        if compressed.artifact:
            artifact = compressed.artifact
            runner = load_artifact(artifact, self.meter.target.threads)
            # In int8 an image may go another way; both are measured alike.
            workload = replace(workload, paths=None)
            made = replace(workload, runner=runner)
            scores = artifact_scores(artifact, network, study.dataset)
        else:
            assert compressed.network is not None
            artifact = compile_network(compressed.network, PORTABLE)
            made = workload_of(compressed.network, study.dataset, self.meter.target)
            scores = scores_of(compressed.network, study.dataset)
        earlier, now = self.meter.measure_jointly([workload, made])
        for file, content in ((BEFORE, compile_network(network, PORTABLE).data), (AFTER, artifact.data)):
            (folder / file).write_bytes(content)
        ships = compressed.file or folder / AFTER
        return (
            self._figure(scores_of(network, study.dataset), folder / BEFORE, earlier, network),
            self._figure(scores, ships, now, compressed.network),
        )

    def _figure(
        self, scores: Mapping[str, float], file: Path, latency: Latency, network: Network | None
    ) -> Figures:
        size = cost_of(network) if network else None
        return Figures(
            scores=scores,
            bytes=file.stat().st_size,
            file=self._inside(file),
            latency_ms=latency.latency_ms,
            interval_ms=latency.interval_ms,
            macs=size.macs if size else None,
            params=size.params if size else None,
        )

    def _inside(self, path: Path) -> str:
        return str(path.relative_to(self.study.folder.path))
