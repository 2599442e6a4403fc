"""Networks of one's own class in bundles: their exits are said, and their weights load without us."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from support.own_branches import Branchy, undecided

from dynnas.data.given import dataset_of
from dynnas.errors import ExportError
from dynnas.export.bundle import export_model
from dynnas.export.formats.checkpoint import load_checkpoint
from dynnas.nn.context import tracing
from dynnas.nn.exits.early_exits import Left
from dynnas.runtimes.plain import PlainNetwork

SHAPE = (3, 12, 12)


def images(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, *SHAPE, generator=generator), torch.arange(count) % 5


@pytest.fixture(scope="module")
def dataset():
    return dataset_of((images(64, 0), images(32, 1), images(16, 2)))


@pytest.fixture(scope="module")
def network(dataset):
    torch.manual_seed(0)
    module = undecided(Branchy(depth=1, op="static"), dataset.normalise(dataset.train.images))
    return PlainNetwork(module, SHAPE, 5).eval()


def check_exits(manifest, network):
    assert manifest["ways"] == ["exit0", "exit1", "head"]
    assert [place["after"] for place in manifest["exits"]] == ["exits.stages.0", "exits.stages.1"]
    assert [place["threshold"] for place in manifest["exits"]] == [*network.module.exits.thresholds]
    assert {place["criterion"] for place in manifest["exits"]} == {"confidence"}
    assert [gate["block"] for gate in manifest["gates"]][:2] == ["skips.0", "gated"]
    assert all(file["exit_agreement"] == 1 for file in manifest["artifacts"])


def test_the_script_says_by_which_exit_an_image_left(network, dataset, tmp_path):
    manifest = export_model(network, dataset, tmp_path / "model", images=24)
    check_exits(manifest, network)
    card = (tmp_path / "model" / "README.md").read_text()
    threshold = network.module.exits.thresholds[0]
    assert f"- exits: exit0 (confidence {threshold}), exit1" in card
    assert "this format has no branches" not in card
    chosen = dataset.search.images[:16]
    np.save(tmp_path / "images.npy", chosen.numpy())
    with tracing(network, Left) as trace, torch.no_grad():
        network(dataset.normalise(chosen))
    command = [sys.executable, tmp_path / "model" / "run.py", tmp_path / "images.npy"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    ways = [manifest["ways"][taken] for taken in trace.of(Left)[0].taken]
    assert len({*ways}) > 1
    assert [line.split("\t")[-1] for line in told] == ways


@pytest.mark.parametrize("format", ["checkpoint", pytest.param("safetensors", marks=pytest.mark.slow)])
def test_weights_load_into_the_class_alone(network, dataset, tmp_path, format):
    folder = tmp_path / "model"
    manifest = export_model(network, dataset, folder, format, images=24)
    check_exits(manifest, network)
    card = (folder / "README.md").read_text()
    assert "all of the network is computed, which the times count" in card
    assert "network = Branchy(...)  # your class, with the values in architecture.json" in card
    assert manifest["artifacts"][0]["use"].endswith("with every exit computed")
    if format == "checkpoint":
        assert json.loads((folder / "network.json").read_text()) == {"class": "support.own_branches:Branchy"}
        tensors = torch.load(folder / "weights.pt", weights_only=True)
        with pytest.raises(ExportError, match=r"weights of support\.own_branches:Branchy, a class"):
            load_checkpoint(folder)
    else:
        from safetensors.torch import load_file

        tensors = load_file(folder / "model.safetensors")
    alone = Branchy(depth=1, op="static")
    alone.exits.thresholds = network.module.exits.thresholds
    alone.load_state_dict(tensors)
    x = dataset.normalise(dataset.search.images)
    assert torch.equal(alone.eval()(x), network(x))


def test_a_network_without_exits_has_none_in_its_card(dataset, tmp_path):
    plain = PlainNetwork(torch.nn.Sequential(torch.nn.Conv2d(3, 5, 12), torch.nn.Flatten()), SHAPE, 5).eval()
    manifest = export_model(plain, dataset, tmp_path / "model", "checkpoint", images=24)
    assert (manifest["exits"], manifest["ways"]) == ([], ["head"])
    assert manifest["artifacts"][0]["use"] == "any number of images at a time"
    assert "- exits: none" in (tmp_path / "model" / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("format", ["openvino", "litert", "pt2"])
def test_other_formats_say_what_they_compute(network, dataset, tmp_path, format):
    manifest = export_model(network, dataset, tmp_path / "model", format, images=24)
    check_exits(manifest, network)
    said = "all of the network is computed" in (tmp_path / "model" / "README.md").read_text()
    assert said == (format == "pt2")
