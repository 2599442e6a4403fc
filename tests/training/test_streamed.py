"""Training on images that are decoded while it runs: equal weights, and nothing is lost by a broken file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from dynnas.data.load import load_data
from dynnas.errors import DataError, TrainingError
from dynnas.settings.settings import DataSettings
from dynnas.training.batches import DatasetBatches
from dynnas.training.trainer import Trainer


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DYNNAS_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(24):
            pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{number}.png")
    return tmp_path / "pets"


def _trainer(pets: Path, folder: Path | None = None, **settings: float) -> Trainer:
    settings = {"memory_gb": 0.0, "cache_gb": 0.0, "workers": 1} | settings
    dataset = load_data(DataSettings(source=str(pets), **settings))  # type: ignore[arg-type]
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    return Trainer(
        network,
        dataset.task,
        DatasetBatches(dataset, size=8, seed=1),
        optimizer=lambda module: torch.optim.SGD(module.parameters(), lr=0.1),
        epochs=3,
        folder=folder,
    )


def _weights(module: nn.Module) -> Tensor:
    return torch.cat([each.flatten().double() for each in module.state_dict().values()])


def test_the_same_weights_streamed_and_in_memory(pets: Path) -> None:
    held = _weights(_trainer(pets, memory_gb=1.0).fit())
    for settings in ({"workers": 0}, {"workers": 2}, {"cache_gb": 1.0}):
        assert torch.equal(_weights(_trainer(pets, **settings).fit()), held)


def test_a_file_that_is_gone_in_mid_epoch_costs_nothing(pets: Path, tmp_path: Path) -> None:
    whole = _weights(_trainer(pets).fit())
    trainer = _trainer(pets, tmp_path / "run")
    trainer.fit(until=6)
    kept = {path: path.read_bytes() for path in pets.rglob("*.png")}
    times = {path: path.stat().st_mtime_ns for path in kept}
    for path in kept:
        path.unlink()
    with pytest.raises(DataError, match=r"(?s)restore it.*\nThe training is saved up to step \d+ of 12, and"):
        trainer.fit()
    for path, content in kept.items():
        path.write_bytes(content)
    resumed = _trainer(pets, tmp_path / "run")
    assert resumed.run.step >= 6
    assert torch.equal(_weights(resumed.fit()), whole)
    assert all(path.stat().st_mtime_ns != time for path, time in times.items())


class Failing:
    """A loader that fails at its third batch while `broken`."""

    broken = True

    def __len__(self) -> int:
        return 4

    def __iter__(self):
        for index in range(4):
            if self.broken and index == 2:
                raise OSError("the network drive went away")
            yield torch.full((4, 6), float(index)), torch.tensor([0, 1, 0, 1])


def test_a_loader_that_raises_costs_nothing(pets: Path, tmp_path: Path) -> None:
    loader = Failing()
    task = load_data(DataSettings(source=str(pets))).task

    def trainer(folder: Path) -> Trainer:
        torch.manual_seed(0)
        return Trainer(
            nn.Linear(6, 2),
            task,
            loader,
            optimizer=lambda module: torch.optim.SGD(module.parameters(), lr=0.1),
            epochs=2,
            folder=folder,
        )

    message = (
        r"(?s)the loader raised OSError at batch 2 of epoch 0: the network drive went away.*"
        r"saved up to step 2 of 8"
    )
    with pytest.raises(TrainingError, match=message):
        trainer(tmp_path / "run").fit()
    loader.broken = False
    resumed = _weights(trainer(tmp_path / "run").fit())
    assert torch.equal(resumed, _weights(trainer(tmp_path / "whole").fit()))
