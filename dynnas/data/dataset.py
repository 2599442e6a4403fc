"""The data set as the rest of dynnas sees it: three disjoint splits, normalisation, batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from dynnas.data.augment import Augment
from dynnas.data.streaming.images import Images, in_batches, read_batches, read_images
from dynnas.tasks.task import Task

_PARTS = ("train", "search", "test")
_READ_TOGETHER = 128


@dataclass(frozen=True, eq=False)
class Split:
    """Images [N, C, H, W] with their targets [N, ...], in random order: any prefix is a fair sample.

    Pixels are bytes, 16 bits (held as int32) or floats.

    Attributes:
        identity: what names the images, if that is not their pixels.
    """

    images: Images
    targets: Tensor
    identity: str = ""

    def __len__(self) -> int:
        return len(self.targets)

    def __repr__(self) -> str:
        kind = str(self.images.dtype).removeprefix("torch.")
        return f"Split({len(self)} images {list(self.images.shape[1:])} of {kind})"

    def __getitem__(self, part: slice) -> Split:
        named = self.identity and f"{self.identity} {part}"
        return Split(self.images[part], self.targets[part], named)

    def to(self, device: str | torch.device) -> Split:
        """Return the same split with its tensors on `device`."""
        return replace(self, images=self.images.to(device), targets=self.targets.to(device))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images of one size in three disjoint splits, each with its own use.

    Attributes:
        task: what the targets mean.
        train: sets weights and batch-norm statistics.
        search: ranks candidates and sets thresholds.
        test: the final report only.
        mean, std: of each channel over the training split, or a random sample of it if it is large, for
            pixels divided by `scale`.
        augmentation: how training images are varied.
        scale: what stands for white: 255 for bytes, 65535 for 16 bits, 1 for floats.
        fit: how pictures of other shapes are brought to the size of the images: crop, pad or stretch.
    """

    name: str
    task: Task
    train: Split
    search: Split
    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augment
    scale: float = 255.0
    fit: str = "crop"

    @property
    def channels(self) -> int:
        return self.train.images.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images, in pixels."""
        height, width = self.train.images.shape[-2:]
        return height, width

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.channels, *self.size

    @property
    def summary(self) -> str:
        """Return one line about the data: images by split, size, targets and augmentation."""
        sizes = ", ".join(f"{size:,} {part}" for part, size in zip(_PARTS, self.split_sizes, strict=True))
        height, width = self.size
        kinds = {1: "grey", 3: "RGB"}
        colour = kinds.get(self.channels, f"{self.channels} channels")
        return (
            f"{self.name}: {sizes} images of {height} x {width} pixels, {colour}; "
            f"{self.task.summary(self.train.targets)}; {self.augmentation}"
        )

    @property
    def split_sizes(self) -> tuple[int, int, int]:
        """Return the numbers of images of the train, search and test splits."""
        return len(self.train), len(self.search), len(self.test)

    @cached_property
    def digest(self) -> str:
        """Return a digest of the contents: splits, kind and names of targets, and augmentation."""
        facts = (self.task.name, self.task.names, repr(self.augmentation), self.scale, *self.task.identity)
        digest = hashlib.blake2b(repr(facts).encode(), digest_size=16)
        for split in (self.train, self.search, self.test):
            tensors = [split.targets]
            if split.identity:
                digest.update(f"{split.identity} {tuple(split.images.shape)}".encode())
            else:
                tensors.insert(0, read_images(split.images))
            for tensor in tensors:
                digest.update(repr(tuple(tensor.shape)).encode())
                digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def to(self, device: str | torch.device) -> Dataset:
        """Return the same data set with all images on `device`; its batches are made there."""
        return replace(
            self, train=self.train.to(device), search=self.search.to(device), test=self.test.to(device)
        )

    def normalise(self, images: Images) -> Tensor:
        """Return float images with zero mean and unit variance by channel.

        Args:
            images: [..., C, H, W] of a split.
        """
        images = read_images(images)
        mean, std = (torch.tensor(v, device=images.device).view(-1, 1, 1) for v in (self.mean, self.std))
        return torch.div(images, self.scale).sub_(mean).div_(std)

    def steps(self, batch: int) -> int:
        """Return the training steps in an epoch.

        The last, incomplete batch is dropped unless it is the only one.
        """
        return max(1, len(self.train) // batch)

    def train_batch(self, seed: int, epoch: int, step: int, batch: int) -> tuple[Tensor, Tensor]:
        """Return batch `step` (from 0) of `epoch`: images [B, C, H, W] and targets [B, ...].

        Images are normalised and augmented.

        It depends on the arguments alone, so that an interrupted training can go on anywhere, on any device.
        """
        return next(self.training_batches(seed, epoch, batch, step, step + 1))

    def training_batches(
        self, seed: int, epoch: int, batch: int, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of `epoch` from step `start` on, before `stop`, as `train_batch` gives them.

        Images that are streamed are decoded ahead of what is asked for.

        Raises:
            DataError: when the batch is due whose images cannot be read.
        """
        order = self.training_order(seed, epoch)
        steps = range(start, self.steps(batch) if stop is None else stop)
        parts = [order[step * batch : (step + 1) * batch] for step in steps]
        for step, part, images in zip(steps, parts, read_batches(self.train.images, parts), strict=True):
            targets = self.train.targets[part.to(self.train.targets.device)]
            draws = _generator("augmentation", seed, epoch, step)
            varied, targets = self.augmentation(images, targets, self.task, draws)
            yield self.normalise(varied), targets

    def training_order(self, seed: int, epoch: int) -> Tensor:
        """Return the numbers (N,) of the training images in the order of an epoch."""
        return torch.randperm(len(self.train), generator=_generator("order", seed, epoch))

    def evaluation_batches(self, split: Split, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every image of `split` in order, normalised and unvaried, with its target."""
        for images, targets in zip(in_batches(split.images, batch), split.targets.split(batch), strict=True):
            yield self.normalise(images), targets

    def calibration_images(self, count: int, seed: int) -> Tensor:
        """Return up to `count` random training images [N, C, H, W], normalised and unvaried."""
        order = torch.randperm(len(self.train), generator=_generator("calibration", seed))
        parts = list(order[:count].split(_READ_TOGETHER))
        return torch.cat([self.normalise(images) for images in read_batches(self.train.images, parts)])


def _generator(purpose: str, *numbers: int) -> torch.Generator:
    """Return a generator whose draws depend on `purpose` and `numbers` alone.

    Any two of them are unrelated.
    """
    seed = hashlib.blake2b(repr((purpose, *numbers)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(seed))
