"""Cascades of segmenters and of detectors: chosen, scored, shown and shipped by what the task says."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.testing import assert_allclose
from support.profiled import convolutions_run
from support.scenes import searched
from support.scripts import load_script
from typer.testing import CliRunner

import dynnas
from dynnas.cli.app import app
from dynnas.data.streaming.images import read_images
from dynnas.errors import StudyError, TargetError, TaskError
from dynnas.export.bundle import export_model
from dynnas.export.card import facts_of_cascade
from dynnas.latency.runner import build_runner
from dynnas.nn.exits.exits import leave
from dynnas.nn.layers.resize import Resize, resize
from dynnas.pareto.front import Front
from dynnas.report.markdown import markdown
from dynnas.report.page.charts import front_chart
from dynnas.report.summary import summarize
from dynnas.report.tables.cascades import cascades_table
from dynnas.runtimes.branching import leave_one_after_another
from dynnas.runtimes.chaining import Answering, chain
from dynnas.runtimes.cost import cost_of
from dynnas.runtimes.onnx.graph import to_onnx
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.runtimes.plain import PlainNetwork
from dynnas.runtimes.preprocessing import prepare_images
from dynnas.runtimes.torch.artifact import write_network
from dynnas.runtimes.torch.export import to_pt2
from dynnas.settings.settings import TargetSettings, TrainSettings
from dynnas.study.study import Study
from dynnas.tasks import Classification, Detection, MultiLabel, Segmentation
from dynnas.workflows.cascades.cascade import cascade_study

TIMES = "mean_ms", "median_ms", "p95_ms", "worst_ms", "latency_ms"


@pytest.fixture(scope="module", params=["segmentation", pytest.param("detection", marks=pytest.mark.slow)])
def cascaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """A study, its front two networks of small pictures and two of large ones, and its cascades."""
    folder = tmp_path_factory.mktemp("tasks")
    patch = pytest.MonkeyPatch()
    patch.setenv("DYNNAS_CACHE", str(folder / "cache"))
    study = searched(request.param, folder)
    first = study.dataset.task.metrics[0].name
    by_size = {
        size: sorted(
            (one for one in study.candidates if one.architecture["resolution"] == size),
            key=lambda one: one.metrics[first],
        )
        for size in ((12, 16), (24, 32))
    }
    chosen = [*by_size[12, 16][-2:], *by_size[24, 32][-2:]]
    # So that what the clock said of networks this small decides nothing.
    timed = tuple(
        replace(one, metrics={**one.metrics, **dict.fromkeys(TIMES, ms)})
        for one, ms in zip(chosen, (1.0, 2.0, 10.0, 20.0), strict=True)
    )
    study.folder.front.write_text(Front(timed, study.goal.objectives).to_json())
    study = Study(study.folder)
    yield study, cascade_study(study, keep=4, size=3)
    patch.undo()


def in_shape(output, shape):
    """An output of a segmenter enlarged, or one of a detector with more rows that are nothing."""
    if output.ndim == 4:
        return torch.nn.functional.interpolate(output, tuple(shape[1:]), mode="bilinear")
    return torch.cat([output, torch.zeros(1, shape[0] - output.shape[1], 6)], 1)


def sureness(output):
    """The mean of the largest softmax over places, or the score of the surest box."""
    return float(output.softmax(1).amax(1).mean() if output.ndim == 4 else output[..., 4].amax())


@torch.no_grad()
def walked(study, cascade, split):
    """Outputs, networks reached and MACs of every image, which is shown to one network after another."""
    data, found = study.dataset, []
    everyone = [study.network(member.key) for member in study.front]
    shapes = [network(prepare_images(network, data, split.images[:1])).shape[1:] for network in everyone]
    shape = max(shapes, key=lambda each: each.numel())
    networks = [study.network(key) for key in cascade.networks]
    for number in range(len(split)):
        spent = 0
        for place, network in enumerate(networks):
            image = prepare_images(network, data, split.images[number : number + 1])
            output = in_shape(network(image), shape)
            spent += cost_of(network).macs
            if place == len(cascade.thresholds) or sureness(output) >= cascade.thresholds[place]:
                break
        found.append((output, place, spent))
    outputs, stages, macs = zip(*found, strict=True)
    return torch.cat(outputs), np.array(stages), np.array(macs)


def test_what_is_said_of_a_cascade_is_what_its_networks_do(cascaded) -> None:
    study, found = cascaded
    data = study.dataset
    assert found
    assert found == study.cascades
    assert any(len({study.network(key).config.shape for key in one.networks}) == 2 for one in found)
    for cascade in found:
        outputs, stages, macs = walked(study, cascade, data.search)
        for name, value in data.task.score(outputs, data.search.targets).items():
            assert cascade.metrics[name] == pytest.approx(value, abs=1e-6)
        assert cascade.shares == pytest.approx(np.bincount(stages, minlength=len(cascade.networks)) / 48)
        assert cascade.metrics["expected_macs"] == pytest.approx(macs.mean())
        assert cascade.shape == tuple(outputs.shape[1:])
        outputs, _, _ = walked(study, cascade, data.test)
        for name, value in data.task.score(outputs, data.test.targets).items():
            assert cascade.metrics[f"test_{name}"] == pytest.approx(value, abs=2e-3)  # ties by rounding


def test_they_beat_the_front_in_the_score_of_the_task(cascaded) -> None:
    study, found = cascaded
    first = study.dataset.task.metrics[0].name
    members = [(one.metrics[first], one.metrics["mean_ms"]) for one in study.front]
    for cascade in found:
        score, ms = cascade.metrics[first], cascade.metrics["latency_ms"]
        assert not any(s >= score and t <= ms for s, t in members)
    assert found.score == first
    assert found.hypervolumes["with cascades"] > found.hypervolumes["front"] > 0


def longest(study, found):
    """A cascade of networks of both sizes, with the images as it takes them."""
    cascade = next(
        one for one in found if len({study.network(key).config.shape for key in one.networks}) == 2
    )
    network = study.cascade_network(cascade)
    assert network.config.size == (24, 32)
    return cascade, network, prepare_images(network, study.dataset, study.dataset.search.images)


def close(study, output, expected) -> None:
    """Check outputs in their numbers; of boxes of next to no score the order may be another."""
    task = study.dataset.task
    assert task.agrees(torch.from_numpy(output), expected).all()
    assert task.difference(torch.from_numpy(output), expected).max() < 1e-3


def test_graphs_send_every_image_to_its_network_and_skip_the_others(cascaded, tmp_path: Path) -> None:
    study, found = cascaded
    cascade, network, images = longest(study, found)
    expected, stages, _ = walked(study, cascade, study.dataset.search)
    assert {0, len(cascade.thresholds)} <= {*stages}
    graph = to_onnx(network)
    onnx.checker.check_model(graph, full_check=True)
    assert sum(node.op_type == "If" for node in graph.graph.node) == 1
    runner = OnnxRunner(graph.SerializeToString(), threads=1)
    outputs = [runner.outputs(image[None].numpy()) for image in images]
    assert [int(each["exit"][0]) for each in outputs] == stages.tolist()
    close(study, np.concatenate([each["logits"] for each in outputs]), expected)
    each = [
        convolutions_run(to_onnx(stage.network), stage.own(images[:1]).numpy(), tmp_path)
        for stage in network.members
    ]
    for stage in {*stages.tolist()}:
        image = images[[stages.tolist().index(stage)]].numpy()
        assert convolutions_run(graph, image, tmp_path) == sum(each[: stage + 1])


@torch.no_grad()
def test_torch_and_its_programs_say_the_same(cascaded) -> None:
    study, found = cascaded
    cascade, network, images = longest(study, found)
    expected, stages, _ = walked(study, cascade, study.dataset.search)
    close(study, network(images).numpy(), expected)
    outputs, taken = leave_one_after_another(network.segments(), images)
    assert taken.tolist() == stages.tolist()
    close(study, outputs.numpy(), expected)
    assert torch.equal(leave(network.logits(images), network.config.exits)[1], taken)
    runner = build_runner(network, TargetSettings(runtime="torch"))
    close(study, np.concatenate([runner(image[None].numpy()) for image in images]), expected)
    program = to_pt2(network).module()
    said = [program(image[None]) for image in images[:6]]
    assert [int(stage) for _, stage in said] == stages[:6].tolist()
    close(study, np.concatenate([output.numpy() for output, _ in said]), expected[:6])
    with pytest.raises(TargetError, match="send no cascade to a device but of classifiers of a space file"):
        write_network(network)


def test_what_ships_says_who_answers(cascaded, tmp_path: Path) -> None:
    study, found = cascaded
    cascade, network, _ = longest(study, found)
    facts = facts_of_cascade(study, cascade)
    manifest = export_model(network, study.dataset, tmp_path / "model", "onnx", images=48, facts=facts)
    assert [each["file"] for each in manifest["artifacts"]] == [
        "model.onnx",
        "model_packed.onnx",
        "model_batch.onnx",
    ]
    assert all(each["agreement"] == each["exit_agreement"] == 1 for each in manifest["artifacts"])
    first = study.dataset.task.metrics[0].name
    assert (
        f"{first} on {len(study.dataset.test)} test images" in (tmp_path / "model" / "README.md").read_text()
    )
    pictures = read_images(study.dataset.search.images).numpy()
    model = load_script(tmp_path / "model" / "run.py").Model(tmp_path / "model")
    answers = [model(picture) for picture in pictures]
    outputs, stages, _ = walked(study, cascade, study.dataset.search)
    assert [answer.exit for answer in answers] == [f"network{stage + 1}" for stage in stages]
    values = np.stack([answer.value for answer in answers])
    if study.dataset.task.name == "segmentation":
        expected = torch.nn.functional.interpolate(outputs, (24, 32), mode="bilinear").argmax(1).numpy()
        assert (values == expected).mean() > 0.999
    else:
        close(study, values, outputs)
    np.save(tmp_path / "images.npy", study.dataset.search.images[:2].numpy())
    ran = subprocess.run(
        [sys.executable, tmp_path / "model" / "run.py", tmp_path / "images.npy"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    ways = [line.split("\t")[-1] for line in ran.stdout.splitlines()]
    assert ways == [f"network{stage + 1}" for stage in stages[:2]]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", ["openvino", "pt2"])
def test_other_formats_agree(format: str, cascaded, tmp_path: Path) -> None:
    if format == "openvino":
        pytest.importorskip("openvino", reason="openvino is not installed")
    study, (_, network, _) = cascaded[0], longest(*cascaded)
    if (format, study.dataset.task.name) == ("openvino", "detection"):  # nor does it run a detector alone
        for each in (network, network.members[0].network):
            with pytest.raises(TargetError, match="OpenVINO cannot run the network's graph"):
                export_model(each, study.dataset, tmp_path / "model", format, images=24)
        return
    manifest = export_model(network, study.dataset, tmp_path / "model", format, images=24)
    assert len(manifest["artifacts"]) == 2
    assert all(each["agreement"] == each["exit_agreement"] == 1 for each in manifest["artifacts"])


def test_tables_and_pages_tell_of_them_by_the_score(cascaded) -> None:
    study, found = cascaded
    first = study.dataset.task.metrics[0].name
    table = cascades_table(study, found)
    row = dict(zip([column.name for column in table.columns], table.rows[0], strict=True))
    words = first.replace("_", " ")
    assert row[f"{words} %"] == f"{100 * found[0].metrics[first]:.2f}"
    assert row["test %"] == f"{100 * found[0].metrics[f'test_{first}']:.2f}"
    assert f"its hypervolume in {words} and latency grows by" in table.title
    (series,) = (each for each in front_chart(study)["series"] if each["name"] == "cascades")
    assert [point["y"] for point in series["points"]] == pytest.approx(
        [100 * one.metrics[first] for one in found]
    )
    assert series["points"][0]["tip"][1].startswith(f"{words} {row[f'{words} %']}% (test")
    assert f"{words} %" in markdown(summarize(study), "command")


def test_a_picked_cascade_takes_pictures_of_the_data(cascaded, tmp_path: Path) -> None:
    study, found = cascaded
    data, first = study.dataset, study.dataset.task.metrics[0].name
    network = study.load("cascade:1")
    with torch.no_grad():
        score = data.task.score(network(data.search.images), data.search.targets)
    assert score[first] == pytest.approx(found[0].metrics[first], abs=2e-3)
    words = [study.folder.path.name, "--studies", str(study.folder.path.parent), "--pick", "cascade:1"]
    ran = CliRunner().invoke(app, ["export", *words, "--out", str(tmp_path / "model")])
    assert ran.exit_code == 0, ran.output
    assert (tmp_path / "model" / "model.onnx").exists()


def test_the_command_shows_and_keeps_them(cascaded) -> None:
    study, found = cascaded
    words = [study.folder.path.name, "--studies", str(study.folder.path.parent), "--quiet"]
    ran = CliRunner().invoke(app, ["cascade", *words, "--keep", "4", "--size", "3"])
    assert ran.exit_code == 0, ran.output
    assert Study(study.folder).cascades == found  # nothing was computed or timed again
    assert "cascade:1" in CliRunner().invoke(app, ["front", *words[:3]]).output


def test_answers_of_several_shapes_are_said_in_the_largest() -> None:
    small, large = torch.randn(2, 3, 3, 4), (3, 6, 8)
    answering = Answering.of(Segmentation(3), [(3, 3, 4), large])
    assert answering.shape == large
    assert_allclose(
        answering(small).numpy(),
        torch.nn.functional.interpolate(small, (6, 8), mode="bilinear").numpy(),
        atol=1e-6,
    )
    boxes = torch.rand(1, 2, 6)
    filled = Answering.of(Detection(2), [(2, 6), (5, 6)])(boxes)
    assert torch.equal(filled[:, :2], boxes)
    assert not filled[:, 2:].any()
    for task, shapes in ((Segmentation(3), [(3, 3, 4), (4, 6, 8)]), (Detection(2), [(2, 6), (5, 9)])):
        with pytest.raises(TaskError, match="the networks of a cascade answer in one shape: take such"):
            Answering.of(task, shapes)


def test_a_size_that_is_no_square_is_made_as_the_data_are() -> None:
    images = torch.rand(2, 3, 9, 14)
    assert_allclose(Resize((9, 14), (6, 10))(images), resize(images, (6, 10)), atol=1e-6)
    assert_allclose(Resize((9, 14), (9, 7))(images), resize(images, (9, 7)), atol=1e-6)
    assert Resize((9, 14), (9, 14))(images) is images


class Rectangles(torch.nn.Module):
    """A network of one's own for pictures of any size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Conv2d(3, width, 3, 2, 1), torch.nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 4 * self.last(self.first(x).relu().mean((2, 3)))


@torch.no_grad()
@pytest.mark.parametrize("task", [Classification(3), MultiLabel(3)], ids=lambda task: task.name)
def test_ones_own_networks_for_rectangles_are_chained_by_the_task(task, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = (6, 10), (9, 14)
    networks = [PlainNetwork(Rectangles(4).eval(), (3, *size), 3).eval() for size in sizes]
    images = torch.randn(24, 3, 9, 14)
    outputs = [network(resize(images, size)) for network, size in zip(networks, sizes, strict=True)]
    # Of several labels, the mean distance from a half: an image is sure where all of them are.
    sure = outputs[0].softmax(1).amax(1)
    if task.name == "multi_label":
        sure = (2 * outputs[0].sigmoid() - 1).abs().mean(1)
    threshold = float(sure.median()) + 1e-4
    stays = sure >= threshold
    assert 0 < stays.sum() < 24
    made = chain(networks, (threshold,), ("a", "b"), (9, 14), Answering(task, (3,)))
    assert (made.config.size, made.config.exits[0].task is None) == ((9, 14), task.name == "classification")
    graph = to_onnx(made)
    runner = OnnxRunner(graph.SerializeToString(), threads=1)
    said = [runner.outputs(image[None].numpy()) for image in images]
    assert [int(each["exit"][0]) for each in said] == (~stays).long().tolist()
    expected = torch.where(stays[:, None], *outputs).numpy()
    assert_allclose(np.concatenate([each["logits"] for each in said]), expected, rtol=1e-4, atol=1e-4)
    late = int((~stays).nonzero()[0]), int(stays.nonzero()[0])
    assert [convolutions_run(graph, images[[number]].numpy(), tmp_path) for number in late] == [2, 1]


class Told(torch.nn.Module):
    """A network of one's own whose outputs only two functions know."""

    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Conv2d(3, width, 3, 2, 1), torch.nn.Linear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x).relu().mean((2, 3)))


def step(model, batch):
    """The squared error."""
    images, targets = batch
    return (model(images)[:, 0] - targets).square()


def score(model, batches):
    """Its mean."""
    return {"miss": torch.cat([step(model, batch) for batch in batches]).mean()}


@pytest.mark.parametrize(
    ("options", "said"),
    [({}, "do not tell how sure they are"), ({"confidence": "told"}, "how good a single answer is, is not")],
)
def test_a_task_that_does_not_tell_is_one_message(options, said, tmp_path: Path) -> None:
    if options:
        options = {"confidence": lambda output: output.sigmoid()[:, 0]}
    rng = np.random.default_rng(0)
    parts = [(rng.integers(0, 256, (count, 8, 8, 3), np.uint8), rng.random(count)) for count in (32, 8, 8)]
    study = dynnas.search(
        dynnas.Space.of(Told, width=[2, 3, 4]),
        data=tuple(parts),
        task=dynnas.tasks.Functions(step, score, {"miss": "minimize"}, **options),
        objectives=("miss", "macs"),
        train=TrainSettings(epochs=1, batch=16, lr=0.01, calibration_images=8, precision="float32"),
        target=TargetSettings(seconds=0.01, images=2),
        trials=3,
        controls=False,
        folder=tmp_path / "study",
    ).study
    members = tuple(study.candidates)[:2]
    timed = tuple(
        replace(one, metrics={**one.metrics, **dict.fromkeys(TIMES, 1.0 + place)})
        for place, one in enumerate(members)
    )
    study.folder.front.write_text(Front(timed, study.goal.objectives).to_json())
    study.__dict__.pop("front", None)
    with pytest.raises(StudyError, match=f"an image leaves a cascade where a network is sure .*{said}"):
        cascade_study(study)
