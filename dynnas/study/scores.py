"""The scores of a network of a study, as they are kept in its folder."""

from __future__ import annotations

from dynnas.data.dataset import Dataset
from dynnas.metrics.accuracy import accuracy
from dynnas.nn.networks.network import Network
from dynnas.pareto.noise import tested


def scores_of(network: Network, dataset: Dataset) -> dict[str, float]:
    """Return the scores of the search split by the names of their metrics, and those of the test split."""
    tests = accuracy(network, dataset, "test").scores
    return {**accuracy(network, dataset).scores, **{tested(name): value for name, value in tests.items()}}
