"""Networks from elsewhere timed without a study, and what `dynnas.elastic` would make of them."""

import pytest
import torch
from support.cli import command
from support.own_networks import ConvNet
from support.trained import TinyResNet
from torch import nn

import dynnas as dn
from dynnas.errors import SpaceError
from dynnas.report.tables.shelf import timed_table
from dynnas.runtimes.onnx.graph import to_onnx
from dynnas.runtimes.plain import PlainNetwork
from dynnas.workflows.shelf.alone import time_networks

TARGET = dn.Target("cpu", seconds=0.01)
SHAPE = (3, 16, 16)


def sized(num_classes, in_chans=3):
    return nn.Sequential(nn.Conv2d(in_chans, 8, 16), nn.Flatten(), nn.Linear(8, num_classes))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "taken.onnx"
    path.write_bytes(to_onnx(PlainNetwork(ConvNet(2, 16).eval(), SHAPE)).SerializeToString())
    return path


def test_networks_are_timed_with_their_sizes_and_starts(file):
    made = {"resnet": lambda: TinyResNet(), "line": lambda: nn.Sequential(nn.Flatten(), nn.Linear(768, 5))}
    found = {each.name: each for each in time_networks(made, TARGET, shape=SHAPE, starts=True)}
    resnet, line = found["resnet"], found["line"]
    assert line.metrics["params"] == 768 * 5 + 5
    assert line.metrics["macs"] == 768 * 5
    assert line.metrics["bytes"] > 4 * line.metrics["params"]
    low, high = resnet.interval_ms
    assert 0 < low <= high
    assert resnet.start.choices == len(dn.elastic(TinyResNet(), torch.zeros(1, *SHAPE)).genes)
    assert 0 < resnet.start.share < 0.5
    assert resnet.start.latency_ms > 0
    assert line.start.latency_ms is None
    assert "nothing of it can be made elastic" in line.start.reason
    table = timed_table(list(found.values()), "cpu")
    assert [column.name for column in table.columns][-3:] == ["elastic: choices", "least params", "least ms"]
    assert "line: Sequential: nothing of it can be made elastic" in table.note


def test_the_command_tells_studies_from_networks(file):
    ran = command("shelf", str(file), "--quiet")
    assert ran.status == 0
    assert "networks from the shelf on cpu" in ran.out
    assert "3x16x16" in ran.out  # the file says it


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resnet18"], "shelf: resnet18 is no network; needed is timm:NAME"),
        (["a:b", "--epochs", "2"], "--epochs: a training needs the data and the recipe of a study"),
        (["mine", "a:b", "--elastic"], "--elastic: the study mine says it; leave it out"),
        (["a:b", "--input", "3x0x4"], "--input is '3x0x4'; allowed is CHANNELSxHEIGHTxWIDTH"),
        ([f"{__name__}:sized"], "test_shelf_alone:sized raised TypeError"),
    ],
)
def test_what_cannot_be_timed_is_one_message(words, message):
    ran = command("shelf", *words, "--quiet")
    assert ran.status == 2
    assert message in ran.err


def test_a_network_that_does_not_say_its_images_is_asked_for_them():
    with pytest.raises(SpaceError, match="does not say the size of its images; give --input, such as"):
        time_networks({"mine": lambda: ConvNet(1, 4)}, TARGET)
