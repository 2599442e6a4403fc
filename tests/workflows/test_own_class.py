"""A class of one's own through everything, from Python and from a space file."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.graphs import session_of
from support.mynet import MyNet
from support.own_networks import Plain
from typer.testing import CliRunner

import dynnas as dn
from dynnas.cli.app import app
from dynnas.data.load import load_data
from dynnas.errors import SpaceError
from dynnas.language.parser import parse_space
from dynnas.metrics.accuracy import accuracy
from dynnas.report.illustration import files_of
from dynnas.runtimes.cost import cost_of
from dynnas.settings.settings import DataSettings, TrainSettings
from dynnas.study.front import StudyFront

TRAIN = TrainSettings(epochs=2, batch=64, calibration_images=64, precision="float32", layout="channels_first")


@pytest.fixture(scope="module")
def space() -> dn.Space:
    return dn.Space.of(
        MyNet,
        depth=[1, 2, 3],
        width=[4, 8],
        op=["static", "condconv"],
        experts=dn.when(op="condconv", choose=[2, 4]),
    )


@pytest.fixture(scope="module")
def front(space: dn.Space, tmp_path_factory: pytest.TempPathFactory) -> StudyFront:
    return dn.search(
        space,
        data=load_data(DataSettings(train_images=512)),
        target=dn.Target("cpu", seconds=0.02),
        train=TRAIN,
        limits={"latency_ms": 50},
        trials=6,
        folder=tmp_path_factory.mktemp("studies") / "own",
    )


def test_what_comes_back_is_the_class_with_its_weights(front: StudyFront) -> None:
    network = front.study.load("knee")
    assert type(network) is MyNet
    member = front.pick("knee")
    plain = MyNet(**member.architecture)
    plain.load_state_dict(network.state_dict(), strict=True)
    data = front.study.dataset
    images = data.normalise(data.search.images)
    with torch.no_grad():
        outputs = plain.eval()(images)
        assert torch.equal(outputs, network(images))
    right = (outputs.argmax(1) == data.search.targets).float().mean()
    assert float(right) == pytest.approx(member.metrics["accuracy"], abs=1e-6)


def test_its_numbers_are_those_of_the_class(front: StudyFront) -> None:
    for member in front.study.candidates:
        network = MyNet(**member.architecture)
        assert member.metrics["params"] == sum(each.numel() for each in network.parameters())
        assert member.metrics["macs"] == cost_of(front.study.network(member.key)).macs
        assert member.metrics["latency_ms"] > 0
    assert len(front.study.candidates) == 6
    found = accuracy(front.study.network(front[0].key), front.study.dataset, "test")
    assert found.top1 == pytest.approx(front[0].metrics["test_accuracy"])


def test_another_process_opens_it_by_the_name_of_the_class(front: StudyFront) -> None:
    again = dn.open_study(front.study.folder.path, data=front.study.dataset)
    assert again.space.model is MyNet
    assert again.space.digest == front.study.space.digest
    ours, theirs = again.load("knee").state_dict(), front.study.load("knee").state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


FILE = """
model: support.mynet:MyNet
choices:
  depth: [1, 2]
  width: [4, 8]
  op: [static, condconv]
  experts: {when: {op: condconv}, choose: [2, 4]}
data: {source: digits, train_images: 512}
train: {epochs: 1, batch: 64, calibration_images: 64, precision: float32, layout: channels_first}
search: {trials: 4, population: 4, controls: false}
target: {seconds: 0.02, images: 8}
"""


def test_a_space_file_names_the_class() -> None:
    space = parse_space(FILE)
    assert space.model is MyNet
    given = dn.when(op="condconv", choose=[2, 4])
    same = dn.Space.of(MyNet, depth=[1, 2], width=[4, 8], op=["static", "condconv"], experts=given)
    assert space.digest == same.digest
    assert space.settings.train.epochs == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "support.mynet:MyNet",
            "support.mynet",
            "2:8: model: found 'support.mynet'; allowed: package",
        ),
        (
            "mynet:MyNet",
            "mynett:MyNet",
            r"2:8: model: support.mynett cannot be imported \(Module",
        ),
        (":MyNet", ":MyNit", r"2:8: model: support.mynet has no MyNit \(did you mean 'MyNet'\?\)"),
        (
            "depth: [1, 2]",
            "deep: [1, 2]",
            r"4:3: choices: MyNet has no argument 'deep' \(did you",
        ),
        (
            "when: {op:",
            "if: {op:",
            "7:12: choices.experts: found a mapping; allowed: a list",
        ),
        ("model:", "stem: {width: 4}\nmodel:", "stem: a space of `model` has its own network"),
    ],
)
def test_what_is_wrong_is_told_where_it_stands(old: str, new: str, message: str) -> None:
    assert old in FILE
    with pytest.raises(SpaceError, match=message):
        parse_space(FILE.replace(old, new))


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the study `own`, searched by the command line."""
    place = tmp_path_factory.mktemp("commands")
    (place / "own.yaml").write_text(FILE)
    run("search", str(place / "own.yaml"), "--studies", str(place / "studies"), "--quiet")
    return place / "studies"


def run(*arguments: str, code: int = 0) -> str:
    found = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
    assert found.exit_code == code, found.output
    return found.output


def test_the_front_shows_its_values(studies: Path) -> None:
    table = run("front", "own", "--studies", str(studies))
    assert all(name in table for name in ("depth", "width", "experts"))
    assert "dynamic layers" not in table


def test_the_report_draws_its_named_parts(studies: Path) -> None:
    run("report", "own", "--studies", str(studies))
    page = (studies / "own" / "report.html").read_text()
    assert "stem.0" in page
    assert "blocks.0" in page
    assert "its multiply-adds and weights" in page


def test_the_dashboard_draws_it_too(studies: Path) -> None:
    study = dn.open_study("own", studies)
    drawing = files_of(study)["network.svg"](study.front[0].architecture)
    assert drawing.startswith("<svg")
    assert "classifier" in drawing or "classifi" in drawing


def test_an_exported_graph_says_what_the_class_says(studies: Path, tmp_path: Path) -> None:
    run("export", "own", "--studies", str(studies), "--out", str(tmp_path / "out"))
    study = dn.open_study("own", studies)
    network, data = study.load("knee"), study.dataset
    image = data.normalise(data.search.images[:1])
    session = session_of(tmp_path / "out" / "model.onnx")
    (found, *_) = session.run(None, {"image": image.numpy()})
    with torch.no_grad():
        assert np.allclose(found, network(image).numpy(), atol=1e-4)
    assert json.loads((tmp_path / "out" / "architecture.json").read_text())["genes"] == dict(
        study.front.pick("knee").architecture
    )


def test_it_is_trained_on_and_ships_so(studies: Path) -> None:
    run("train", "own", "--studies", str(studies), "--epochs", "1", "--from", "scratch", "--quiet")
    study = dn.open_study("own", studies)
    (trained,) = study.trained
    network = study.load(trained.key, weights=trained.name)
    assert type(network) is MyNet
    data = study.dataset
    with torch.no_grad():
        said = network(data.normalise(data.search.images)).argmax(1)
    assert float((said == data.search.targets).float().mean()) == pytest.approx(trained.score, abs=1e-6)


@pytest.mark.parametrize(
    ("command", "more", "file"),
    [
        ("latency", ("--images", "8"), "latency"),
        ("audit", ("--networks", "3", "--epochs", "1", "--quiet"), "audit.json"),
        ("compress", ("--pass", "int8", "--quiet"), "compressed.json"),
        ("cascade", ("--keep", "1", "--quiet"), "cascades.json"),
    ],
)
def test_commands_take_it(studies: Path, command: str, more: tuple[str, ...], file: str) -> None:
    if command == "cascade" and len(dn.open_study("own", studies).front) < 2:
        pytest.skip("a chain needs two networks")
    run(command, "own", "--studies", str(studies), *more)
    assert (studies / "own" / file).exists()


@pytest.mark.parametrize("method", ["prune", pytest.param("cluster", marks=pytest.mark.slow), "lottery"])
def test_it_is_made_smaller_and_read_again(studies: Path, method: str) -> None:
    epochs = "2" if method == "lottery" else "1"
    run("compress", "own", "--studies", str(studies), "--pass", method, "--epochs", epochs, "--quiet")
    study = dn.open_study("own", studies)
    made = next(each for each in study.compressed if each.method == method)
    network = study.load(made.key, weights=made.name)
    assert type(network) is MyNet
    params = sum(each.numel() for each in network.parameters())
    assert params == made.after.params
    assert (params < made.before.params) == (method == "prune")
    data = study.dataset
    with torch.no_grad():
        said = network(data.normalise(data.search.images)).argmax(1)
    right = float((said == data.search.targets).float().mean())
    assert right == pytest.approx(made.after.scores["accuracy"], abs=1e-6)
    if method == "prune":  # a ticket cannot begin with new weights of such a shape
        words = ("--pass", "lottery", "--weights", made.name, "--epochs", "2", "--quiet")
        found = CliRunner().invoke(app, ["compress", "own", "--studies", str(studies), *words])
        assert "has lost channels, which its class does not make" in str(found.exception)


def test_a_ticket_of_a_class_begins_with_what_its_constructor_draws(studies: Path) -> None:
    study = dn.open_study("own", studies)
    key = study.front.pick("knee").key
    drawn, again, other = (study.fresh_network(key, seed).state_dict() for seed in (0, 0, 1))
    torch.manual_seed(0)
    expected = MyNet(**study.architecture(key)).state_dict()
    for name, tensor in expected.items():
        assert torch.equal(drawn[f"module.{name}"], tensor)
        assert torch.equal(again[f"module.{name}"], tensor)
    assert any(not torch.equal(other[name], drawn[name]) for name in drawn)


def test_values_that_are_tuples_from_a_file_to_the_front(tmp_path: Path) -> None:
    choices = "{widths: [[4], [4, 8], [8, 16]], kernel: {when: {widths: [[4, 8], [8, 16]]}, choose: [3, 5]}}"
    text = FILE[FILE.index("data:") :]
    space = parse_space(f"model: support.own_networks:Plain\nchoices: {choices}\n{text}")
    widths = [(4,), (4, 8), (8, 16)]
    kernel = dn.when(widths=widths[1:], choose=[3, 5])
    assert space.digest == dn.Space.of(Plain, widths=widths, kernel=kernel).digest
    (tmp_path / "plain.yaml").write_text(f"model: support.own_networks:Plain\nchoices: {choices}\n{text}")
    run("search", str(tmp_path / "plain.yaml"), "--studies", str(tmp_path / "studies"), "--quiet")
    study = dn.open_study("plain", tmp_path / "studies")
    assert study.space.digest == space.digest
    best = study.front.pick("most-accurate")
    assert best.architecture["widths"] in widths
    assert type(study.load(best.key)) is Plain
    found = run("front", "plain", "--studies", str(tmp_path / "studies"))
    assert json.dumps(list(best.architecture["widths"])) in found or str(best.architecture["widths"]) in found
