"""The processes that train a supernet together, as one of them sees the others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


def backend(device: str) -> str:
    """Return the backend of `torch.distributed` for tensors on `device`, and gloo for the processor."""
    return "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those that train: rank `rank` of `count`.

    With more than one, the process group was set up before.

    Every rank calls the same methods in the same order, with tensors of the same shapes.
    """

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Return whether this is the rank that writes and reports."""
        return self.rank == 0

    def part(self, whole: int) -> slice:
        """Return the rows of a batch of `whole` that are this rank's.

        Ranks' parts differ by at most one row.
        """
        return slice(self.rank * whole // self.count, (self.rank + 1) * whole // self.count)

    def add(self, tensor: Tensor) -> Tensor:
        """Sum `tensor` over all ranks in place; the bits are equal on every rank."""
        if self.count > 1:
            distributed.all_reduce(tensor)
        return tensor

    def add_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Sum the gradients over the ranks in place, in one message; the same ones are None on all ranks."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.count == 1 or not gradients:
            return
        summed = self.add(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, total in zip(gradients, summed.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(total.view_as(gradient))

    def gather(self, tensor: Tensor) -> Tensor:
        """Return the `tensor` of every rank, stacked in the order of ranks: [count, *tensor.shape]."""
        if self.count == 1:
            return tensor.unsqueeze(0)
        parts = [torch.empty_like(tensor) for _ in range(self.count)]
        distributed.all_gather(parts, tensor)
        return torch.stack(parts)

    def agree(self, value: T) -> T:
        """Return the value of rank 0, on every rank."""
        if self.count == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, device=torch.device("cpu"))
        return values[0]


@dataclass(frozen=True)
class Batch:
    """A batch of `images`; each of `ranks` has its part of it."""

    ranks: Ranks
    images: int

    @classmethod
    def whole(cls, images: int) -> Batch:
        """Return a batch that one process has to itself."""
        return cls(Ranks(), images)

    @property
    def part(self) -> slice:
        """The rows that are this rank's."""
        return self.ranks.part(self.images)

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean (...) of (B, ...) over the whole batch, with the gradient of this rank's mean.

        Where each rank weighs its loss by its share of the images, and gradients are summed over ranks, that
        gives the gradient of the whole batch.
        """
        own = values.mean(0)
        whole = self.ranks.add(own.detach() * (len(values) / self.images))
        return whole + (own - own.detach())

    def rows(self, values: Tensor) -> Tensor:
        """Return the rows of the whole batch (images, ...); this rank's (B, ...) are among them.

        With the gradient of these alone, and so that it adds up over ranks as that of `mean` does.
        """
        own = values.detach()
        whole = own.new_zeros(self.images, *own.shape[1:])
        whole[self.part] = own
        self.ranks.add(whole)
        gradient = (values - own) * (self.images / len(values))
        return whole.index_add(0, torch.arange(self.images, device=own.device)[self.part], gradient)
