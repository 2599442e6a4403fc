"""Weights shared by clustering, stored by Huffman codes (Deep Compression: Han 2016, sections 3 and 4)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from dynnas.compression.coded_file import read_coded, write_coded
from dynnas.compression.compress import CompressedModel, CompressionInput, Pass
from dynnas.nn.networks.network import Network
from dynnas.training.algorithm import Algorithm, Run

MOST_ROUNDS = 300
LR_SHARE = 0.1
"""Learning rate of centroids relative to the weights': a centroid's gradient is the sum over its weights."""

FILE = "weights.coded"


def _run(source: CompressionInput) -> CompressedModel:
    """Share 2 ** `bits` values within each kernel, bank and matrix, tune the values, and write the codes."""
    bits = int(source.options["bits"])
    network = copy.deepcopy(source.network)
    clusters = Clusters(network, bits)
    train = source.recipe.train
    recipe = replace(source.recipe, train=replace(train, lr=LR_SHARE * train.lr))
    source.tune(network, clusters, recipe=recipe)
    path = source.folder / FILE
    written = write_coded(network, path, clusters.indices())
    # What ships is what was read back.
    return CompressedModel(network=read_coded(path, network), file=path, details={"bits": bits, **written})


def shared_parameters(network: Network) -> Iterator[tuple[str, nn.Parameter]]:
    """Return the parameters with two axes or more: kernels, banks and matrices."""
    return ((name, value) for name, value in network.named_parameters() if value.ndim > 1)


def cluster(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Cluster numbers by k-means on a line (Lloyd), from `count` evenly spaced centroids (section 3.1).

    Centroids that no value is nearest to are dropped.

    Args:
        values: (N,).
        count: of clusters.

    Returns:
        Centroids (at most `count`), ascending, and the index (N,) of each value's.
    """
    centroids = np.linspace(values.min(), values.max(), count)
    for _ in range(MOST_ROUNDS):
        index = _nearest(values, centroids)
        sizes = np.bincount(index, minlength=len(centroids))
        sums = np.bincount(index, weights=values, minlength=len(centroids))
        moved = np.where(sizes > 0, sums / np.maximum(sizes, 1), centroids)
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    used, index = np.unique(_nearest(values, centroids), return_inverse=True)
    return centroids[used], index


def _nearest(values: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    return np.searchsorted((centroids[1:] + centroids[:-1]) / 2, values)


class Clusters(Algorithm):
    """Keeps the weights of a cluster at one value, and moves them by their summed gradients (section 3.3).

    Made, it puts the clusters' values into `network`.
    """

    name = "clustered"

    def __init__(self, network: Network, bits: int) -> None:
        self._shared: list[tuple[str, nn.Parameter, Tensor]] = []
        for name, parameter in shared_parameters(network):
            flat = parameter.detach().cpu().double().numpy().ravel()
            centroids, index = cluster(flat, min(2**bits, flat.size))
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(centroids[index]).view_as(parameter))
            self._shared.append((name, parameter, torch.from_numpy(index)))

    def indices(self) -> dict[str, np.ndarray]:
        """Return for every shared tensor the cluster of each of its values."""
        return {name: index.cpu().numpy() for name, _, index in self._shared}

    @torch.no_grad()
    def on_gradients(self, run: Run) -> None:
        for _, parameter, index in self._shared:
            if parameter.grad is not None:
                parameter.grad.copy_(_by_cluster(parameter.grad, index, mean=False))

    def on_step(self, run: Run) -> None:
        self._join()

    def on_finish(self, run: Run) -> None:
        self._join()

    @torch.no_grad()
    def _join(self) -> None:
        # Equal steps may round differently at different places of a tensor.
        for _, parameter, index in self._shared:
            parameter.copy_(_by_cluster(parameter, index, mean=True))


def _by_cluster(values: Tensor, index: Tensor, mean: bool) -> Tensor:
    index = index.to(values.device)
    flat = values.reshape(-1).double()
    sums = torch.bincount(index, weights=flat)
    if mean:
        sums /= torch.bincount(index)
    return sums[index].view_as(values).to(values.dtype)


CLUSTER = Pass(_run, {"bits": 5})
