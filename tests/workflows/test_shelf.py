"""Networks from elsewhere on the clock of a study, trained by its recipe, beside its front."""

from dataclasses import replace

import pytest
import torch
from support.own_networks import ConvNet
from torch import nn

import dynnas as dn
from dynnas.errors import DataError, SpaceError
from dynnas.report.markdown import markdown
from dynnas.report.page.charts import front_chart
from dynnas.report.study import picture_of
from dynnas.report.summary import summarize
from dynnas.report.tables.shelf import shelf_table
from dynnas.runtimes.onnx.graph import to_onnx
from dynnas.runtimes.plain import PlainNetwork
from dynnas.settings.settings import TrainSettings
from dynnas.study.records.shelf import Shelf
from dynnas.study.study import Study
from dynnas.training.weights.initial import load_weights
from dynnas.workflows.shelf.shelve import shelve


def images(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 16, 16, generator=generator), torch.arange(count) % 5


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    front = dn.search(
        dn.Space.of(ConvNet, depth=[1, 2], width=[4, 8]),
        data=(images(48, 0), images(32, 1), images(16, 2)),
        train=TrainSettings(
            epochs=1, batch=16, calibration_images=32, precision="float32", layout="channels_first"
        ),
        target=dn.Target("cpu", seconds=0.02),
        trials=3,
        controls=False,
        folder=tmp_path_factory.mktemp("study") / "small",
    )
    return front.study


def plain(num_classes, in_chans):
    """A function as timm's: it is told the sizes of the data."""
    return nn.Sequential(nn.Conv2d(in_chans, 8, 16), nn.ReLU(), nn.Flatten(), nn.Linear(8, num_classes))


@pytest.fixture(scope="module")
def shelf(study, tmp_path_factory):
    file = tmp_path_factory.mktemp("onnx") / "taken.onnx"
    network = PlainNetwork(ConvNet(2, 16, classes=7).eval(), (3, 16, 16), 7)
    file.write_bytes(to_onnx(network).SerializeToString())
    found = shelve(study, [f"{__name__}:plain", str(file)], epochs=1)
    return found, str(file)


def test_networks_are_timed_and_those_that_can_be_are_trained(study, shelf):
    found, file = shelf
    told = {each.name: each for each in found}
    assert set(told) == {f"{__name__}:plain", file}
    trained, taken = told[f"{__name__}:plain"], told[file]
    assert trained.metrics["params"] == 3 * 8 * 256 + 8 + 8 * 5 + 5
    assert trained.metrics["macs"] == 3 * 8 * 256 + 8 * 5
    assert trained.epochs == 1
    assert {"accuracy", "test_accuracy", "f1"} <= trained.metrics.keys()
    weights, *options = trained.start
    load_weights(plain(5, 3), study.folder.path / weights)
    arguments = ["--argument", "num_classes=5", "--argument", "in_chans=3"]
    assert options == ["--model", f"{__name__}:plain", *arguments, "--input", "3x16x16"]
    assert taken.epochs == 0
    assert set(taken.metrics) == {"latency_ms"}
    for each in found:
        low, high = each.interval_ms
        assert 0 < low <= each.metrics["latency_ms"] * 1.5
        assert high >= low
    assert Shelf.load(study.folder.shelf) == found
    assert Study(study.folder).shelf == found


def test_a_network_put_there_again_takes_the_place_of_the_first(study, shelf):
    found, file = shelf
    assert len(found.with_networks([replace(found[0], epochs=9)])) == 2
    again = shelve(study, {"mine": lambda: ConvNet(1, 4)})
    assert {each.name for each in again} == {f"{__name__}:plain", file, "mine"}
    study.folder.shelf.write_text(found.to_json())


def test_the_shelf_stands_beside_the_front(study, shelf):
    table = shelf_table(study)
    assert [row[0] for row in table.rows] == [each.name for each in shelf[0]]
    trained = next(each for each in shelf[0] if each.epochs)
    (point,) = picture_of(study).shelf
    assert point.cost == trained.metrics["latency_ms"]
    assert point.accuracy == 100 * trained.metrics["accuracy"]
    (series,) = [one for one in front_chart(study)["series"] if one["name"] == "from the shelf"]
    assert series["points"][0]["key"] == trained.name
    assert f"| {trained.name} " in markdown(summarize(study), "dynnas search")


def test_what_the_front_does_not_beat_is_a_start(study, shelf):
    best = replace(shelf[0][0], name="best", metrics={"latency_ms": 1e-6, "accuracy": 1.0})
    worst = replace(shelf[0][0], name="worst", metrics={"latency_ms": 1e6, "accuracy": 0.0})
    kept = study.folder.shelf.read_text()
    try:
        study.folder.shelf.write_text(Shelf((best, worst)).to_json())
        assert shelf_table(study).note.startswith("Not beaten by the front: best. Take it, or begin with it")
        best = replace(best, start=("shelf/1/weights.pt", "--model", "a:b"))
        study.folder.shelf.write_text(Shelf((best, worst)).to_json())
        start = f"dynnas elastic {study.folder.path}/shelf/1/weights.pt --model a:b --out best.yaml"
        assert shelf_table(study).note.endswith(f"make a space of a trained network: {start}")
        study.folder.shelf.write_text(Shelf((worst,)).to_json())
        assert shelf_table(study).note.startswith("Every network from the shelf is beaten")
    finally:
        study.folder.shelf.write_text(kept)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("resnet", "'resnet' is no network; needed is timm:NAME, package.module:function, or a file .onnx"),
        ("builtins:dict", "builtins:dict gives dict; needed is a torch.nn.Module"),
        ("support.own_networks:Nothing", "cannot be imported"),
        ("nothing.onnx", "nothing.onnx: cannot be run on images .*No such file"),
        ({"bad": lambda: 1 / 0}, "bad raised ZeroDivisionError"),
        ({"other": lambda: ConvNet(1, 4, classes=3)}, "other gives 3 outputs, and the data ask for 5"),
        ({"line": lambda: nn.Linear(3, 5)}, r"line cannot be run on images \(2, 3, 16, 16\): RuntimeError"),
    ],
)
def test_what_cannot_be_put_there_is_one_message(study, network, message):
    with pytest.raises((SpaceError, DataError), match=message):
        shelve(study, network if isinstance(network, dict) else [network])


@pytest.mark.slow
def test_timms(timm, study):
    found = shelve(study, ["timm:resnet10t"])
    assert "timm:resnet10t" in [each.name for each in found]
    with pytest.raises(SpaceError, match="timm has no network 'nothing'"):
        shelve(study, ["timm:nothing"])
