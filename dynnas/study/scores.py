"""The scores of a network of a study, as they are kept in its folder."""

from __future__ import annotations

from dynnas.data.dataset import Dataset
from dynnas.metrics.accuracy import accuracy
from dynnas.metrics.artifact import run_artifact, scored_artifact
from dynnas.nn.networks.network import Network
from dynnas.pareto.noise import tested
from dynnas.runtimes.artifact import Artifact
from dynnas.runtimes.compile import load_artifact


def scores_of(network: Network, dataset: Dataset) -> dict[str, float]:
    """Return the scores of the search split by the names of their metrics, and those of the test split."""
    tests = accuracy(network, dataset, "test").scores
    return {**accuracy(network, dataset).scores, **{tested(name): value for name, value in tests.items()}}


def artifact_scores(artifact: Artifact, network: Network, dataset: Dataset) -> dict[str, float]:
    """Return the same of an artifact for one image; `network` says how images are prepared for it.

    Raises:
        TargetError: the artifact cannot be run on this machine.
        MissingExtraError: its runtime is not installed.
    """
    runner, found = load_artifact(artifact), dict[str, float]()
    for split, named in ((dataset.search, str), (dataset.test, tested)):
        outputs = run_artifact(runner, network, dataset, split.images).outputs
        scores = dataset.task.score_model(scored_artifact(runner, network, dataset, split, outputs))
        found |= {named(name): value for name, value in scores.items()}
    return found
