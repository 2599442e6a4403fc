"""The batches of a training, from a data set of dynnas or from any loader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from dynnas.data.augment import Augmentation
from dynnas.data.dataset import Dataset
from dynnas.errors import TrainingError


@runtime_checkable
class Batches(Protocol):
    """The batches by their place in the training: the same whenever they are asked for."""

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of batches in an epoch."""
        ...

    def batch(self, epoch: int, index: int) -> tuple[Any, Any]:
        """Return inputs and targets of batch `index` of an epoch.

        Batches are asked for in order, beginning anywhere.
        """
        ...


class DatasetBatches:
    """The training images of a data set, varied and normalised.

    Args:
        dataset: on the device where its batches are to be made.
        size: images a batch. seed: draws order and variations.
    """

    def __init__(self, dataset: Dataset, size: int, seed: int) -> None:
        self._dataset, self._size, self._seed = dataset, size, seed
        self._next = (-1, 0)
        self._iterator: Iterator[tuple[Any, Any]] = iter(())
        self._order = (-1, torch.zeros(0, dtype=torch.int64))

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of batches; the last, incomplete batch is left out unless it is the only one."""
        return self._dataset.steps(self._size)

    def numbers(self, epoch: int, index: int) -> Tensor | None:
        """Return the numbers (B,) of the images of a batch in their split; None where images are varied."""
        if self._dataset.augmentation != Augmentation():
            return None
        if epoch != self._order[0]:
            self._order = (epoch, self._dataset.training_order(self._seed, epoch))
        return self._order[1][index * self._size : (index + 1) * self._size]

    def batch(self, epoch: int, index: int) -> tuple[Any, Any]:
        """See `Batches`."""
        if (epoch, index) != self._next:
            self._iterator = self._dataset.training_batches(self._seed, epoch, self._size, index)
        self._next = (-1, 0)  # until the batch is there: what fails is asked for again
        batch = next(self._iterator)
        self._next = (epoch, index + 1)
        return batch


class LoaderBatches:
    """The batches of an iterable, such as a `torch.utils.data.DataLoader`: pairs of inputs and targets.

    An epoch is one pass over it. What it draws (order, variations) follows from (seed, epoch, index), as
    torch's generator is seeded before each batch, so an interrupted epoch is gone through again up to where
    it was left. Workers of a `DataLoader` are seeded by torch from what it draws when an epoch begins.

    Args:
        loader: the batches. seed: draws what the loader draws. device: where batches are moved to.
        steps: batches an epoch, of a loader that has no length.

    Raises:
        TrainingError: the number of batches is not known, or is 0.
    """

    def __init__(
        self, loader: Iterable[tuple[Any, Any]], seed: int, device: str = "cpu", steps: int | None = None
    ) -> None:
        if steps is None and not isinstance(loader, Sized):
            raise TrainingError("training: the loader has no length; say how many steps an epoch has (steps)")
        self._steps = len(loader) if steps is None and isinstance(loader, Sized) else steps or 0
        if self._steps < 1:
            raise TrainingError("training: the loader has no batches; give it data, or a smaller batch size")
        self._loader, self._seed, self._device = loader, seed, device
        self._epoch, self._next = -1, 0
        self._iterator: Iterator[tuple[Any, Any]] = iter(())

    @property
    def steps_per_epoch(self) -> int:
        """See `Batches`."""
        return self._steps

    def batch(self, epoch: int, index: int) -> tuple[Any, Any]:
        """See `Batches`.

        Raises:
            TrainingError: the loader ends earlier than it says.
        """
        if epoch != self._epoch or index < self._next:
            set_epoch = getattr(getattr(self._loader, "sampler", None), "set_epoch", None)
            if set_epoch is not None:  # of a `DistributedSampler`
                set_epoch(epoch)
            with _seeded(self._seed, epoch, 0):
                self._iterator = iter(self._loader)
            self._epoch, self._next = epoch, 0
        while True:
            with _seeded(self._seed, epoch, self._next):
                try:
                    inputs, targets = next(self._iterator)
                except StopIteration:
                    raise TrainingError(
                        f"training: the loader ended after {self._next} of {self._steps} batches of an "
                        "epoch; it must give as many in each"
                    ) from None
                except Exception as error:  # whatever a stranger's loader may raise
                    raise TrainingError(
                        f"training: the loader raised {type(error).__name__} at batch {self._next} of epoch "
                        f"{epoch}: {error}"
                    ) from error
            self._next += 1
            if self._next > index:
                return _moved(inputs, self._device), _moved(targets, self._device)


def rows(batch: Any) -> int:
    """Return the number of images of a batch of inputs or targets: the length of its first tensor or list.

    Raises:
        TrainingError: there is no tensor in it.
    """
    found = _first(batch)
    if found is None:
        raise TrainingError(f"training: a batch is a {type(batch).__name__}; needed are tensors")
    return len(found)


def part_of(batch: Any, part: slice) -> Any:
    """Return some rows of a batch, whose tensors lie in tuples, lists or dicts."""
    if isinstance(batch, Tensor):
        return batch[part]
    if isinstance(batch, dict):
        return {name: part_of(each, part) for name, each in batch.items()}
    return type(batch)(part_of(each, part) for each in batch)


def _first(batch: Any) -> Tensor | None:
    if isinstance(batch, Tensor):
        return batch
    parts = batch.values() if isinstance(batch, dict) else batch if isinstance(batch, tuple | list) else ()
    return next((found for part in parts if (found := _first(part)) is not None), None)


def _moved(batch: Any, device: str) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {name: _moved(each, device) for name, each in batch.items()}
    if isinstance(batch, tuple | list):
        return type(batch)(_moved(each, device) for each in batch)
    return batch


@contextmanager
def _seeded(seed: int, epoch: int, index: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(hash((seed, epoch, index)) & (2**63 - 1))
        yield
