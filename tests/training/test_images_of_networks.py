"""A network that is trained alone sees images of the size that it takes, which the data may not have."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.recipes import short_training
from torch import nn

from dynnas.data.load import load_data
from dynnas.runtimes.plain import PlainNetwork
from dynnas.settings.settings import DataSettings
from dynnas.space.space import Space
from dynnas.supernet.supernet import Supernet
from dynnas.training.models import model_of
from dynnas.training.recipe import Recipe
from dynnas.training.train_network import train_alone


class Seen(nn.Module):
    """A network that keeps the sizes of the images that it got."""

    def __init__(self, size: int = 4) -> None:
        super().__init__()
        self.conv, self.norm, self.linear = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 10)
        self.sizes: set[tuple[int, ...]] = set()
        self.size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.add(tuple(x.shape[1:]))
        return self.linear(self.norm(self.conv(x)).mean((2, 3)))

    @staticmethod
    def image_shape(architecture: Mapping[str, int], shape: tuple[int, int, int]) -> tuple[int, int, int]:
        return (shape[0], architecture["size"], architecture["size"])


def test_a_plain_network_is_trained_on_images_of_its_size(tmp_path: Path) -> None:
    dataset = load_data(DataSettings(train_images=128))
    assert dataset.shape == (1, 8, 8)
    module = Seen()
    recipe = Recipe(replace(short_training(), epochs=1), start="scratch", teacher="none")
    train_alone(PlainNetwork(module, (1, 4, 4), 10), dataset, recipe, tmp_path)
    assert module.sizes == {(1, 4, 4)}


def test_networks_of_a_supernet_are_trained_on_images_of_their_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[tuple[int, ...]] = set()
    forward = Seen.forward

    def told(self: Seen, x: torch.Tensor) -> torch.Tensor:
        seen.add((self.size, *x.shape[1:]))
        return forward(self, x)

    monkeypatch.setattr(Seen, "forward", told)
    supernet = Supernet(Space.of(Seen, size=[4, 6]))
    for size in (4, 6):
        supernet(supernet.space.architecture({"size": size}), torch.zeros(2, 1, 8, 8))
    assert seen == {(4, 1, 4, 4), (6, 1, 6, 6)}


def test_work_is_counted_at_the_size_of_a_network() -> None:
    images = torch.zeros(2, 1, 8, 8)
    plain = model_of(PlainNetwork(Seen(), (1, 4, 4), 10))
    supernet = Supernet(Space.of(Seen, size=[4, 6]))
    shared = model_of(supernet)
    expected = 4 * 9 * 2**2 + 40
    assert plain.exit_macs(None, images) == pytest.approx([expected])
    small = supernet.space.architecture({"size": 4})
    assert shared.exit_macs(small, images) == pytest.approx([expected])
