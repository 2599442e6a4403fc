"""Clusters against scikit-learn, Huffman codes against the entropy, and files that are read back."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from support.networks import config, finished, images
from torch.nn import functional as F

from dynnas.compression.cluster import Clusters, cluster, shared_parameters
from dynnas.compression.coded_file import read_coded, write_coded
from dynnas.compression.huffman import code_lengths, decode, encode
from dynnas.compression.lottery import Mask, keep_signs, largest_weights
from dynnas.errors import TrainingError


@pytest.mark.parametrize("count", [4, 8, 16])
def test_clusters_are_those_of_scikit_learn(count):
    values = np.random.default_rng(count).uniform(-1, 1, 500)
    centroids, index = cluster(values, count)
    start = np.linspace(values.min(), values.max(), count)[:, None]
    theirs = KMeans(count, init=start, n_init=1, tol=0, max_iter=1000).fit(values[:, None])
    np.testing.assert_allclose(centroids, np.sort(theirs.cluster_centers_[:, 0]), atol=1e-6)
    assert ((values - centroids[index]) ** 2).sum() == pytest.approx(theirs.inertia_)


def test_empty_clusters_are_dropped():
    centroids, index = cluster(np.array([0.0, 0.0, 1.0, 1.0]), 8)
    assert centroids.tolist() == [0, 1]
    assert index.tolist() == [0, 0, 1, 1]


def test_a_centroid_moves_by_the_sum_of_its_weights_gradients():
    """Against autograd through centroids[index]."""
    network = finished(config()).train()
    clusters = Clusters(network, bits=2)
    other = copy.deepcopy(network)
    index = {name: torch.from_numpy(each) for name, each in clusters.indices().items()}
    centroids = {}
    for name, value in other.named_parameters():
        if name in index:
            table = torch.zeros(int(index[name].max()) + 1).index_copy(
                0, index[name], value.detach().flatten()
            )
            centroids[name] = table.requires_grad_()
    x, labels = images(8), torch.arange(8) % 5
    torch.manual_seed(0)  # of the head's dropout
    F.cross_entropy(network(x), labels).backward()
    clusters.on_gradients(None)
    state = {
        name: centroids[name][index[name]].view_as(value)
        for name, value in other.named_parameters()
        if name in index
    }
    torch.manual_seed(0)
    F.cross_entropy(torch.func.functional_call(other, state, (x,)), labels).backward()
    before = {name: value.detach().clone() for name, value in shared_parameters(network)}
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    clusters.on_step(None)
    for name, value in shared_parameters(network):
        moved = centroids[name].detach() - 0.1 * centroids[name].grad
        torch.testing.assert_close(value.flatten(), moved[index[name]], rtol=1e-4, atol=1e-6)
        assert value.unique().numel() <= 4
    assert any(not torch.equal(before[name], value) for name, value in shared_parameters(network))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 30), max_size=300))
def test_huffman_codes_are_decoded_again(symbols):
    symbols = np.array(symbols, dtype=np.int64)
    lengths = code_lengths(np.bincount(symbols, minlength=31))
    assert decode(encode(symbols, lengths), lengths, len(symbols)).tolist() == symbols.tolist()


def test_huffman_codes_are_shortest():
    """Within a bit a symbol of the entropy, complete (Kraft), and as worked out by hand."""
    assert code_lengths(np.array([45, 13, 12, 16, 9, 5])).tolist() == [1, 3, 3, 3, 4, 4]  # Cormen, 16.3
    often = np.random.default_rng(0).integers(1, 1000, 32)
    lengths = code_lengths(often).astype(float)
    share = often / often.sum()
    entropy = -(share * np.log2(share)).sum()
    assert entropy <= (share * lengths).sum() < entropy + 1
    assert (2.0**-lengths).sum() == pytest.approx(1)


def test_damaged_codes_are_refused():
    lengths = code_lengths(np.array([4, 2, 1]))
    with pytest.raises(ValueError, match="found 8 of 9 symbols"):
        decode(bytes([0]), lengths, 9)
    with pytest.raises(ValueError, match="no Huffman code begins like this"):
        decode(bytes([255]), np.array([1], dtype=np.uint8), 3)


@pytest.fixture
def network():
    return finished(config("mbconv", "condconv", exits=1, attention="se"))


def same(first, second):
    assert first.config == second.config
    for name, value in first.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(second.state_dict()[name], value, rtol=0, atol=0)


def test_a_coded_file_holds_the_clustered_network(network, tmp_path):
    clusters = Clusters(network, bits=4)
    path = tmp_path / "weights.coded"
    sizes = write_coded(network, path, clusters.indices())
    same(network, read_coded(path))
    shared = sum(value.numel() for _, value in shared_parameters(network))
    assert sizes["float_bytes"] == 4 * shared
    assert sizes["coded_bytes"] < sizes["float_bytes"] / 2
    assert path.stat().st_size > sizes["coded_bytes"]


def test_a_sparse_file_holds_the_masked_network(network, tmp_path):
    masks = largest_weights(network, 0.9)
    Mask(network, masks)
    values = torch.cat([value.flatten() for _, value in shared_parameters(network)])
    assert (values != 0).float().mean() == pytest.approx(0.1, abs=0.01)
    write_coded(network, tmp_path / "sparse", {}, frozenset(masks))
    same(network, read_coded(tmp_path / "sparse"))
    write_coded(network, tmp_path / "dense", {})
    assert (tmp_path / "sparse").stat().st_size < 0.5 * (tmp_path / "dense").stat().st_size


def test_the_smallest_weights_of_all_tensors_go(network):
    masks = largest_weights(network, 0.5)
    kept = torch.cat([value.abs()[masks[name] == 1] for name, value in shared_parameters(network)])
    gone = torch.cat([value.abs()[masks[name] == 0] for name, value in shared_parameters(network)])
    assert kept.min() > gone.max()
    assert len(gone) == pytest.approx(len(kept), abs=1)


def test_signs_alone_are_kept_at_the_deviation_of_a_tensor(network):
    before = {name: value.detach().clone() for name, value in shared_parameters(network)}
    keep_signs(network)
    for name, value in shared_parameters(network):
        torch.testing.assert_close(value.detach(), before[name].sign() * before[name].std(correction=0))


@pytest.mark.parametrize("damage", ["cut", "mark", "longer"])
def test_a_damaged_file_is_one_message(network, tmp_path, damage):
    path = tmp_path / "weights.coded"
    write_coded(network, path, Clusters(network, bits=3).indices())
    content = path.read_bytes()
    path.write_bytes({"cut": content[:-300], "mark": b"x" + content, "longer": content + b"1"}[damage])
    with pytest.raises(TrainingError, match=r"weights\.coded: no readable coded network"):
        read_coded(path)
