"""Networks of one's own over images that are no squares: searched, loaded, trained, exported, run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.scripts import load_script
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import dynnas as dn
from dynnas.export.bundle import export_model
from dynnas.settings.settings import TrainSettings
from dynnas.study.front import StudyFront

HEIGHT, WIDTH = 6, 10
TRAIN = TrainSettings(epochs=1, batch=32, calibration_images=32, precision="float32", layout="channels_first")


class Flat(nn.Module):
    """Images (B, 2, 6, 10), of no other size, to logits (B, 3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width * HEIGHT * WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.norm(self.conv(x))).flatten(1))


class Pixels(nn.Module):
    """Images (B, 2, 6, 10) to a class of three for each pixel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Conv2d(width, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def splits(of_pixels: bool) -> tuple[TensorDataset, ...]:
    """Which of three colours an image, or a pixel, has."""
    rng = torch.Generator().manual_seed(0)
    made = []
    for count in (96, 48, 48):
        shape = (count, HEIGHT, WIDTH) if of_pixels else (count, 1, 1)
        labels = torch.randint(3, shape, generator=rng)
        colours = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])[labels].permute(0, 3, 1, 2)
        images = colours.expand(count, 2, HEIGHT, WIDTH) + 0.1 * torch.rand(
            count, 2, HEIGHT, WIDTH, generator=rng
        )
        made.append(TensorDataset(images.clamp(max=1), labels if of_pixels else labels[:, 0, 0]))
    return tuple(made)


def searched(model: type[nn.Module], task: dn.tasks.Task, folder: Path) -> StudyFront:
    front = dn.search(
        dn.Space.of(model, width=[4, 8]),
        data=splits(model is Pixels),
        task=task,
        train=TRAIN,
        target=dn.Target("cpu", seconds=0.02),
        objectives=("mean_iou" if model is Pixels else "accuracy", "latency_ms"),
        trials=2,
        folder=folder,
    )
    assert isinstance(front, StudyFront)
    return front


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> StudyFront:
    return searched(Flat, dn.tasks.Classification(), tmp_path_factory.mktemp("flat") / "study")


def test_a_class_that_takes_one_size_is_searched_at_it(flat: StudyFront) -> None:
    network = flat.study.load("knee")
    assert isinstance(network, Flat)
    data = flat.study.dataset
    with torch.no_grad():
        right = (network(data.normalise(data.search.images)).argmax(1) == data.search.targets).float().mean()
    assert float(right) == pytest.approx(flat.pick("knee").metrics["accuracy"], abs=1e-6)


def test_what_is_exported_runs_alone(flat: StudyFront, tmp_path: Path) -> None:
    key = flat.pick("knee").key
    data = flat.study.dataset
    manifest = export_model(flat.study.network(key), data, tmp_path / "model", "onnx", images=20)
    assert manifest["size"] == [HEIGHT, WIDTH]
    run = load_script(tmp_path / "model/run.py")
    model = run.Model(tmp_path / "model")
    with torch.no_grad():
        expected = flat.study.load("knee")(data.normalise(data.test.images[:8])).argmax(1).tolist()
    found = [data.task.names.index(model(np.asarray(image)).name) for image in data.test.images[:8]]
    assert found == expected


def test_pixels_have_classes(tmp_path: Path) -> None:
    front = searched(Pixels, dn.tasks.Segmentation(3), tmp_path / "study")
    network = front.study.load("knee")
    assert isinstance(network, Pixels)
    assert network(torch.zeros(1, 2, HEIGHT, WIDTH)).shape == (1, 3, HEIGHT, WIDTH)
    assert set(front.pick("knee").metrics) > {"mean_iou", "latency_ms"}
