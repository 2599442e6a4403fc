"""A supernet begins with the weights of a file: by name and shape, with a report of what was used."""

import json
from dataclasses import replace

import pytest
import torch
from support.mynet import MyNet
from support.own_networks import ViT
from torch import nn

import dynnas as dn
from dynnas.data.load import load_data
from dynnas.errors import TrainingError
from dynnas.language.parser import parse_space
from dynnas.progress import Progress
from dynnas.settings.settings import DataSettings, TrainSettings
from dynnas.space.moves import largest, smallest
from dynnas.supernet.staged import staged_supernet
from dynnas.training.start import train_supernet
from dynnas.training.weights.initial import load_initial_weights

IMAGES = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
STAGED = parse_space("""
input: {channels: 1, classes: 10, resolutions: 8}
stem: {width: 4}
stages: [{block: mbconv, depth: [1, 2], width: [4, 8], kernel: [3, 5], op: [static, dyconv], experts: 2}]
head: {width: 8}
""")


@pytest.fixture
def space():
    return dn.Space.of(MyNet, depth=[1, 2], width=[8, 16])


def saved(space, path, values, seed=5):
    """A network of these values with weights of its own, in a file."""
    network = dn.Supernet(space, seed=seed).extract(values)
    torch.save(network.state_dict(), path)
    return network


@pytest.mark.parametrize("kind", ["plain", "safetensors", "nested", "wrapped"])
def test_the_largest_network_becomes_that_of_the_file(space, tmp_path, kind):
    path = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pt")
    theirs = saved(space, path, largest(space))
    state = theirs.state_dict()
    if kind == "safetensors":
        from safetensors.torch import save_file

        save_file(state, path)
    elif kind == "nested":
        torch.save({"epoch": 3, "state_dict": state}, path)
    elif kind == "wrapped":
        torch.save({f"module.{name}": tensor for name, tensor in state.items()}, path)
    supernet = dn.Supernet(space, seed=1)
    report = load_initial_weights(supernet, path)
    ours = supernet.extract(largest(space))
    assert torch.equal(ours(IMAGES), theirs(IMAGES))
    assert set(report.used) == {name for name, _ in theirs.named_parameters()}
    assert (report.other_shape, report.unknown, report.fresh) == ({}, (), ())
    assert {name.rpartition(".")[2] for name in report.statistics} <= {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }


def test_a_supernets_own_checkpoint_begins_another_one(space, tmp_path):
    theirs = dn.Supernet(space, seed=3)
    torch.save({"step": 7, "model": theirs.state_dict()}, tmp_path / "checkpoint.pt")
    supernet = dn.Supernet(space, seed=1)
    report = load_initial_weights(supernet, tmp_path / "checkpoint.pt")
    assert set(report.used) == set(theirs.state_dict())
    assert (report.other_shape, report.unknown, report.fresh) == ({}, (), ())
    for network in (supernet, theirs):
        network.eval()
    for architecture in (largest(space), smallest(space)):
        assert torch.equal(supernet.extract(architecture)(IMAGES), theirs.extract(architecture)(IMAGES))
    name = next(name for name, tensor in theirs.state_dict().items() if tensor.dim() > 1)
    torch.save(theirs.state_dict() | {name: torch.zeros(3, 3)}, tmp_path / "checkpoint.pt")
    report = load_initial_weights(dn.Supernet(space, seed=1), tmp_path / "checkpoint.pt")
    assert list(report.other_shape) == [name]
    assert report.fresh == (name,)


def test_heads_that_are_sliced_apart_are_joined_in_the_file(tmp_path):
    space = dn.Space.of(ViT, dim=[16, 32], depth=[1, 2], heads=[2, 4])
    theirs = saved(space, tmp_path / "vit.pt", largest(space))
    supernet = dn.Supernet(space, seed=1)
    assert load_initial_weights(supernet, tmp_path / "vit.pt").fresh == ()
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(supernet.extract(largest(space))(x), theirs(x))


def test_networks_of_space_files_begin_with_one_of_static_kernels(tmp_path):
    """Each kernel of a bank begins as the kernel of the file, so that their mean is it."""
    static = {**largest(STAGED)}
    static |= {name: "static" for name in static if name.endswith(".op")}
    static = STAGED.architecture({name: value for name, value in static.items() if "experts" not in name})
    theirs = staged_supernet(STAGED, 1, 10, seed=5).extract(static)
    torch.save(theirs.state_dict(), tmp_path / "static.pt")
    supernet = staged_supernet(STAGED, 1, 10, seed=1)
    report = load_initial_weights(supernet, tmp_path / "static.pt")
    ours = supernet.extract(static)
    torch.testing.assert_close(ours(IMAGES), theirs(IMAGES), rtol=1e-5, atol=1e-6)
    assert report.unknown == ()
    assert all("router" in name or "dyconv" in name for name in report.fresh)


def test_what_is_not_used_is_listed(space, tmp_path):
    theirs = saved(space, tmp_path / "weights.pt", largest(space))
    state = theirs.state_dict()
    name = next(iter(dict(theirs.named_parameters())))
    state[name] = state[name][:1]
    state["elsewhere.weight"] = torch.zeros(2)
    torch.save(state, tmp_path / "weights.pt")
    report = load_initial_weights(dn.Supernet(space), tmp_path / "weights.pt")
    assert list(report.other_shape) == [name]
    assert report.unknown == ("elsewhere.weight",)
    assert report.fresh == (name,)
    assert f"1 have another shape ({name})" in str(report)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        (b"no checkpoint", r"torch\.load\(weights_only=True\) cannot read it"),
        ([1, 2], "holds no tensors by name"),
        (
            nn.Linear(3, 2).state_dict(),
            r"none of the weights among its 2 tensors fits .* it has weight \(2, 3\)",
        ),
        (MyNet(1, 4).state_dict(), r"none of the weights .* fits this supernet: its \S+ has the shape"),
    ],
)
def test_a_wrong_file_is_one_message(space, tmp_path, content, message):
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(TrainingError, match=message):
        load_initial_weights(dn.Supernet(space), path)


class Listening(Progress):
    def __init__(self):
        self.messages = []

    def message(self, text):
        self.messages.append(text)


def test_a_training_begins_with_the_file_and_says_so(space, tmp_path):
    saved(space, tmp_path / "weights.pt", largest(space))
    dataset = load_data(DataSettings(train_images=64))
    settings = TrainSettings(
        epochs=1,
        batch=32,
        lr=0.0,
        init=str(tmp_path / "weights.pt"),
        precision="float32",
        layout="channels_last",
    )
    expected, supernet, progress = dn.Supernet(space), dn.Supernet(space), Listening()
    load_initial_weights(expected, tmp_path / "weights.pt")
    train_supernet(supernet, dataset, settings, tmp_path / "training", progress=progress)
    assert supernet.digest() == expected.digest()
    written = json.loads((tmp_path / "training/init.json").read_text())
    assert len(written["used"]) == len(list(supernet.parameters()))
    assert f"{len(written['used'])} of {len(written['used'])} tensors are used" in progress.messages[0]
    saved(space, tmp_path / "weights.pt", largest(space), seed=6)
    with pytest.raises(TrainingError, match="another space, data set or settings"):
        train_supernet(dn.Supernet(space), dataset, settings, tmp_path / "training")
    with pytest.raises(TrainingError, match="cannot be read"):
        train_supernet(dn.Supernet(space), dataset, replace(settings, init="nowhere.pt"), tmp_path / "other")
