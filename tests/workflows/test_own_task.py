"""A task that dynnas does not know, with a head of its own: from a space file to the exported model."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from support.keypoints import Keypoints, SoftArgmax, points
from torch import nn

import dynnas
from dynnas.data.streaming.images import read_images
from dynnas.errors import SpaceError, StudyError, TaskError
from dynnas.export.bundle import export_model
from dynnas.language.parser import load_space, parse_space
from dynnas.nn.networks.backbone_networks import BackboneNetworks
from dynnas.space.moves import largest, smallest
from dynnas.study.folder import StudyFolder
from dynnas.study.study import Study
from dynnas.supernet.make import make_supernet
from dynnas.tasks import Classification, Functions, Segmentation, WithHead
from dynnas.testing import check_task
from dynnas.workflows.run import run_study
from dynnas.workflows.start import check_network_fits

FILE = """
input: {resolutions: [[12, 16], [24, 32]]}
stem: {width: 4, stride: 2}
stages:
  - {block: basic, width: 8, stride: 2, depth: [1, 2]}
  - {block: mbconv, width: [8, 16], stride: 2, expand: 2}
head: {neck: 8, finest: [2, 4]}
data: {task: 'support.keypoints:Keypoints', source: 'support.keypoints:points'}
train: {epochs: 1, batch: 24, calibration_images: 12, precision: float32, layout: channels_first}
search: {trials: 2, controls: false, seed: 1}
target: {seconds: 0.01, images: 2}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("points")
    path = folder / "space.yaml"
    path.write_text(FILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DYNNAS_CACHE", str(folder / "cache"))
        run_study(load_space(path), folder=folder / "study")
    return Study(StudyFolder(folder / "study"))  # as another process opens it


def test_the_file_takes_head_and_objectives_from_the_task(study: Study) -> None:
    assert study.space.gene("head.kind").values == ("task",)
    assert [objective.name for objective in study.goal.objectives] == ["pck", "latency_ms"]
    for member in study.front:
        assert any(isinstance(part, SoftArgmax) for part in study.network(member.key).modules())
        assert {"pck", "distance", "test_pck", "latency_ms"} <= set(member.metrics)


def test_points_are_in_pixels_of_the_data_whatever_size_is_seen() -> None:
    task = Keypoints()
    space = parse_space(FILE).of_data((3, 24, 32), task)
    supernet, images = make_supernet(space, 3, task.outputs).eval(), torch.rand(2, 3, 24, 32)
    for architecture in (smallest(space), largest(space)):
        network = supernet.extract(architecture).eval()
        height, width = architecture["resolution"]
        small = torch.nn.functional.interpolate(images, (height, width), mode="bilinear", antialias=True)
        seen, maps = network.slots["head"], network.features(small)
        read = [each for stride, each in maps.items() if stride >= architecture["head.finest"]]
        own = seen.head(seen.neck(read))
        assert torch.allclose(network(small), own * torch.tensor([32 / width, 24 / height]))


def test_the_exported_model_scores_alone_what_the_search_said(study: Study, tmp_path: Path) -> None:
    member = study.front.pick("fastest")
    export_model(study.network(member.key), study.dataset, tmp_path / "model", "onnx", images=8)
    spec = importlib.util.spec_from_file_location("run_points", tmp_path / "model" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model, data = module.Model(tmp_path / "model"), study.dataset
    answers = np.stack([model(np.asarray(image)).value for image in read_images(data.search.images)])
    scores = data.task.score(torch.from_numpy(answers), data.search.targets)
    assert scores["distance"] == pytest.approx(member.metrics["distance"], rel=1e-3)


class Maps(nn.Module):
    """A backbone that gives two maps."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, width, 3, stride=2, padding=1), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.ReLU())

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        first = self.first(x)
        return [first, self.second(first)]


@pytest.mark.parametrize(
    "task", [Keypoints(), Classification(4), Segmentation(5)], ids=["keypoints", "classes", "pixels"]
)
def test_own_classes_and_trained_networks_take_the_head_of_the_task(task) -> None:
    images = torch.randn(2, 3, 24, 32)
    own = dynnas.Space.of(lambda width: WithHead(Maps(width), task, images), width=[4, 6])
    supernet = dynnas.Supernet(own)
    trained = WithHead(Maps(), task, images).eval()
    expected = trained(images)
    assert expected.shape == {"keypoints": (2, 2, 2), "classification": (2, 4)}.get(task.name, (2, 5, 12, 16))
    with torch.no_grad():
        assert torch.equal(supernet.extract(largest(own))(images), supernet(largest(own), images))
    converted = dynnas.elastic(trained, images, divisor=2)
    assert torch.equal(converted.build(largest(converted))(images), expected)
    assert converted.build(smallest(converted))(images).shape == expected.shape


def test_a_task_of_functions_may_bring_a_head() -> None:
    task = Functions(
        lambda model, batch: (model(batch[0]) - batch[1]).abs().mean(),
        lambda model, batches: {"mae": float(sum((model(x) - y).abs().sum() for x, y in batches))},
        {"mae": "minimize"},
        outputs=2,
        head=lambda channels, strides: SoftArgmax(channels[0], strides[0], 2),
    )
    assert task.has_own_head
    assert task.head([3], [4])([torch.zeros(1, 3, 2, 4)]).tolist() == [[[8.0, 4.0], [8.0, 4.0]]]
    unnamed = FILE.replace("task: 'support.keypoints:Keypoints', ", "").replace("{neck", "{kind: task, neck")
    space = parse_space(unnamed)
    assert isinstance(space.model, BackboneNetworks)
    network = space.of_data((3, 24, 32), task).build(largest(space)).eval()
    assert network(torch.zeros(1, 3, 24, 32)).shape == (1, 2, 2)


def test_the_task_passes_the_suite_of_tasks() -> None:
    data = points()
    check_task(Keypoints(), data.train.targets[:12] / 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("keypoints:Keypoints", "keypoints:Points"),
            "data.task: 'support.keypoints:Points' cannot be imported",
        ),
        (("keypoints:Keypoints", "keypoints:POINTS"), "data.task: support.keypoints:POINTS is a int"),
        (("{neck", "{kind: [task, classifier], neck"), "found classifier .of image., task .of any."),
    ],
)
def test_files_that_make_no_sense(change: tuple[str, str], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        parse_space(FILE.replace(*change))


def test_a_head_that_is_not_known_yet_or_does_not_fit_is_refused() -> None:
    space = parse_space(FILE)
    with pytest.raises(SpaceError, match=r"head.kind task: .* once the data are known"):
        space.build(largest(space))
    squares = parse_space("input: {resolutions: 8}\nstem: {width: 4}\nstages: [{width: 8}]")
    with pytest.raises(StudyError, match=r"asks for points; say the task in the file.*head"):
        check_network_fits(squares, Keypoints())
    with pytest.raises(TaskError, match="Flatten gives no maps"):
        WithHead(nn.Flatten(), Keypoints(), torch.zeros(1, 3, 8, 8))
