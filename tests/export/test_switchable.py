"""A switchable model: several networks of a supernet in one file, equal to each of them alone."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from support.networks import CHANNELS, CLASSES, noise
from torch import nn

from dynnas.errors import ExportError
from dynnas.export.bundle import verify_bundle
from dynnas.export.standalone import Model
from dynnas.export.switchable.bundle import export_switchable
from dynnas.export.switchable.model import load_switchable
from dynnas.export.switchable.sharing import share
from dynnas.language.parser import load_space
from dynnas.nn.layers.resize import resize
from dynnas.runtimes.onnx.graph import to_onnx
from dynnas.supernet.staged import staged_supernet

SPACE = """
name: several
input: {resolutions: [12, 16]}
stem: {width: [16, 32]}
stages:
  - {block: mbconv, depth: [1, 2], width: [32, 48], stride: 2, kernel: [3, 5], expand: [2, 4],
     op: [static, condconv, dynet], experts: 2}
  - {block: basic, depth: 2, width: 64, gate: [none, skip], gate_target: 0.5}
head: {width: 64}
exits: {positions: [stage1], count: [0, 1], thresholds: [0.3], width: 16}
"""

CHOICES = {  # the best first; of what is not named the largest
    "large": {"exits.at": "none", "stage2.1.gate": "skip", "stage2.1.gate_target": 0.5},
    "middle": {"stage1.0.op": "condconv"},
    "small": {
        "resolution": 12,
        "stem.width": 16,
        "stage1.width": 32,
        "stage1.0.op": "static",
        "stage1.0.kernel": 3,
        "exits.at": "none",
    },
}


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    file = tmp_path_factory.mktemp("space") / "several.yaml"
    file.write_text(SPACE)
    space = load_space(file)
    supernet = staged_supernet(space, CHANNELS, CLASSES).eval()
    torch.manual_seed(0)
    for parameter in supernet.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    largest = {gene.name: gene.values[-1] for gene in space.genes}
    found = {}
    for key, choice in CHOICES.items():
        found[key] = supernet.extract(space.architecture({**largest, **choice}))
        for layer in found[key].modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.5, 2)
    return found


@pytest.fixture(scope="module")
def bundle(networks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "model"
    export_switchable(networks, noise(), folder, images=10)
    return folder


def test_every_tensor_is_a_slice_or_the_networks_own(networks):
    sharing = share(list(networks.values()))
    for at, network in enumerate(networks.values()):
        state = sharing.state(at)
        assert set(state) == set(network.state_dict())
        assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
    shared = {each.path for parts in sharing.parts for each in parts.values()}
    assert any("expand" in path for path in shared)
    statistics = [name for name in networks["small"].state_dict() if "running" in name]
    assert set(statistics) <= set(sharing.own[2])


def test_networks_with_weights_of_their_own_share_nothing_and_are_right(networks):
    torch.manual_seed(1)
    other = [networks["large"], type(networks["large"])(networks["large"].config)]
    sharing = share(other)
    for at, network in enumerate(other):
        state = sharing.state(at)
        assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())


def test_one_file_holds_little_more_than_the_largest_network(networks, bundle):
    sizes = verify_bundle(bundle)["sizes"]
    assert sizes["largest_alone"] == max(to_onnx(network).ByteSize() for network in networks.values())
    words = 130_000  # of operators; this network's weights are few
    assert sizes["model.onnx"] - words < 1.1 * sizes["largest_alone"] < 0.7 * sizes["all_alone"]
    assert sizes["model.pt"] < 1.2 * sizes["largest_alone"]


def test_the_graph_answers_as_each_network_alone(networks, bundle):
    model = onnx.load(bundle / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    manifest = verify_bundle(bundle)
    assert [member["key"] for member in manifest["members"]] == list(CHOICES)
    assert [member["ways"] for member in manifest["members"]] == [["head"], ["stage1", "head"], ["head"]]
    rows = [row for row in manifest["artifacts"] if row["file"] == "model.onnx"]
    assert [row["use"].split(":")[0] for row in rows] == [f"network {key}" for key in CHOICES]
    assert max(row["largest_difference"] for row in rows) < 1e-4
    assert all(row["exit_agreement"] == 1 for row in rows)
    assert all(row["score"] == row["network_score"] for row in rows)


def test_torch_switches_to_the_best_network_within_a_budget(networks, bundle):
    model = load_switchable(bundle / "model.pt")
    images = resize(torch.randn(5, CHANNELS, 20, 20), model.size)
    for number, (key, network) in enumerate(networks.items()):
        model.switch(key)
        with torch.no_grad():
            assert torch.equal(model(images), network(resize(images, network.config.shape[1:])))
        held = sum(tensor.numel() for tensor in tensors(model) if tensor.device.type == "cpu")
        assert held <= sum(tensor.numel() for tensor in network.state_dict().values()), number
    fast, slow = sorted(member.ms for member in model.members)[:: len(networks) - 1]
    assert model.budget_ms(slow).key == "large"
    assert model.budget_ms(fast / 2) == min(model.members, key=lambda member: member.ms)
    assert model.active.ms == fast
    with pytest.raises(ExportError, match=r"no network 'huge'; allowed are large, middle, small"):
        model.switch("huge")


def tensors(model):
    for network in model._networks:
        yield from network.state_dict().values()


def test_the_script_switches(networks, bundle, tmp_path):
    pixels = noise().search.images[0].numpy()
    model = Model(bundle)
    assert model.budget_ms(1e9) == "large"
    first = model(pixels)
    fastest = min(model.members, key=lambda member: member["ms"])
    assert model.budget_ms(0) == fastest["key"]
    second = model(pixels)
    torchs = load_switchable(bundle / "model.pt")
    x = noise().normalise(torch.from_numpy(pixels)[None])
    for key, answer in (("large", first), (fastest["key"], second)):
        torchs.switch(key)
        np.testing.assert_allclose(answer.value, torchs(x)[0].softmax(0).numpy(), atol=1e-5)
    np.save(tmp_path / "image.npy", pixels)
    ran = subprocess.run(
        [sys.executable, bundle / "run.py", tmp_path / "image.npy"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split("\t")[1:3] == [first.name, f"{first.confidence:.4f}"]


def test_damage_and_single_networks_are_refused(networks, bundle, tmp_path):
    (tmp_path / "half.pt").write_bytes((bundle / "model.pt").read_bytes()[:5000])
    with pytest.raises(ExportError, match=r"half\.pt: no switchable model, or damaged"):
        load_switchable(tmp_path / "half.pt")
    with pytest.raises(ExportError, match=r"two networks or more, not 1; pick several"):
        export_switchable({"large": networks["large"]}, noise(), tmp_path / "one")
    with pytest.raises(
        ExportError, match=r"other is a Linear; a switchable model holds networks of space files"
    ):
        export_switchable({**networks, "other": nn.Linear(2, 2)}, noise(), tmp_path / "one")
    assert json.loads((bundle / "manifest.json").read_text())["format"] == "switchable"
