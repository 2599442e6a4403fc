"""A task that dynnas does not come with: where in an image some points lie, in pixels."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.data.given import dataset_of
from dynnas.metric import Metric
from dynnas.tasks.task import Task
from dynnas.tasks.view import View

POINTS, HEIGHT, WIDTH = 2, 24, 32


class SoftArgmax(nn.Module):
    """A score for each place of the finest map, and the mean place by these: (B, points, 2) as x, y."""

    def __init__(self, in_channels: int, stride: int, points: int) -> None:
        super().__init__()
        self.stride = stride
        self.scores = nn.Conv2d(in_channels, points, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Map the finest of the maps to pixels of the image that was seen."""
        scores = self.scores(maps[0])
        shares = scores.flatten(2).softmax(-1).view_as(scores)
        rows = (torch.arange(scores.shape[2], device=scores.device) + 0.5) * self.stride
        columns = (torch.arange(scores.shape[3], device=scores.device) + 0.5) * self.stride
        return torch.stack([(shares.sum(2) * columns).sum(-1), (shares.sum(3) * rows).sum(-1)], -1)


class Keypoints(Task):
    """Targets and outputs are (B, points, 2): x and y in pixels of the data."""

    name = "keypoints"
    answers = "points"
    metrics = (
        Metric("pck", "share", "maximize", "share of the points that are told within 4 pixels"),
        Metric("distance", "px", "minimize", "mean distance from the point"),
    )

    def __init__(self, points: int = POINTS) -> None:
        self.points = points

    @property
    def outputs(self) -> int:
        return self.points

    def head(self, in_channels: Sequence[int], strides: Sequence[int], *, dropout: float = 0.0) -> nn.Module:
        return SoftArgmax(in_channels[0], strides[0], self.points)

    def rescaled(self, output: Tensor, scale: tuple[float, float]) -> Tensor:
        return output * output.new_tensor(scale)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return F.smooth_l1_loss(output, target, reduction="none").flatten(1).mean(1)

    def distill(self, output: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        return self.loss(output, teacher)

    def score(self, outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        apart = (outputs - targets).norm(dim=-1)
        return {"pck": (apart < 4).float().mean().item(), "distance": apart.mean().item()}

    def moved(self, target: Tensor, view: View) -> Tensor:
        return view.places(target)


def points() -> object:
    """Return 48 pictures with a red and a blue spot at random places, as a data set."""
    rng = np.random.default_rng(0)
    where = rng.uniform(4, (WIDTH - 4, HEIGHT - 4), (48, POINTS, 2)).astype(np.float32)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    images = rng.integers(0, 40, (48, HEIGHT, WIDTH, 3))
    for point, channel in ((0, 0), (1, 2)):
        x, y = where[:, point].T[..., None, None]
        images[..., channel] += (200 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 8)).astype(np.int64)
    images = images.astype(np.uint8)
    return dataset_of(
        {
            "train": (images[:24], where[:24]),
            "search": (images[24:36], where[24:36]),
            "test": (images[36:], where[36:]),
        },
        Keypoints(),
        name="points",
        augment="flip",
    )
