"""Pickles in shared memory: several processes map one object, whose arrays and tensors exist once."""

from __future__ import annotations

import io
import mmap
import os
import pickle
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import reduction
from typing import Any

_ALIGNMENT = 64


@dataclass(frozen=True)
class SharedPickle:
    """A pickled object in a nameless file, which goes when the last process that has it open ends.

    It can be an argument of a process that is about to be started, and of nothing else.

    Attributes:
        descriptor: of the file.
        pickled: bytes of the pickle, at the file's start.
        places: (offset, bytes) of each array's contents.
    """

    descriptor: int
    pickled: int
    places: tuple[tuple[int, int], ...]

    @staticmethod
    def of(content: Any) -> SharedPickle:
        """Pack `content`.

        Raises:
            Exception: whatever pickle raises for what it cannot take.
        """
        text, buffers = pickled(content)
        places, end = [], len(text)
        for buffer in buffers:
            start = -(-end // _ALIGNMENT) * _ALIGNMENT
            end = start + buffer.raw().nbytes
            places.append((start, end - start))
        descriptor = _nameless_file()
        os.ftruncate(descriptor, max(end, 1))
        _write(descriptor, text, 0)
        for buffer, (start, _) in zip(buffers, places, strict=True):
            _write(descriptor, buffer.raw(), start)
        return SharedPickle(descriptor, len(text), tuple(places))

    def open(self) -> Any:
        """Return the object, whose arrays are the file's pages.

        A process that writes to them gets copies of these pages.
        """
        memory = memoryview(mmap.mmap(self.descriptor, 0, access=mmap.ACCESS_COPY))
        buffers = [memory[start : start + count] for start, count in self.places]
        return pickle.loads(memory[: self.pickled], buffers=buffers)

    def close(self) -> None:
        """Close the file in this process."""
        os.close(self.descriptor)

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (reduction.DupFd(self.descriptor), self.pickled, self.places)


def pickled(
    content: Any, pickler: type[pickle.Pickler] | None = None
) -> tuple[bytes, list[pickle.PickleBuffer]]:
    """Return `content` pickled, and its arrays and tensors apart, for `pickle.loads(buffers=...)`.

    Args:
        pickler: one that asks `reduce_tensor` first, if not the plain one.

    Raises:
        Exception: whatever the pickler raises for what it cannot take.
    """
    text = io.BytesIO()
    buffers: list[pickle.PickleBuffer] = []
    (pickler or _Pickler)(text, protocol=5, buffer_callback=buffers.append).dump(content)
    return text.getvalue(), buffers


def _arrived(descriptor: Any, pickled: int, places: Sequence[tuple[int, int]]) -> SharedPickle:
    return SharedPickle(descriptor.detach(), pickled, tuple(places))


def _nameless_file() -> int:
    # Not /dev/shm, which containers keep small.
    if hasattr(os, "memfd_create"):
        return os.memfd_create("dynnas")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _write(descriptor: int, content: bytes | memoryview, offset: int) -> None:
    left = memoryview(content).cast("B")
    while len(left):
        written = os.pwrite(descriptor, left, offset)
        left, offset = left[written:], offset + written


class _Pickler(pickle.Pickler):
    """Pickles tensors as arrays: their contents stay outside of the pickle."""

    def reducer_override(self, thing: Any) -> Any:
        return reduce_tensor(thing)


def reduce_tensor(thing: Any) -> Any:
    """Return the reduction of a tensor to an array; NotImplemented for all else."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(thing, torch.Tensor):
        return NotImplemented
    try:
        array = thing.detach().contiguous().numpy()
    except (TypeError, RuntimeError):  # on another device, or of a type that arrays do not have
        return NotImplemented
    if type(thing) is torch.nn.Parameter:
        return _parameter, (array, thing.requires_grad)
    return (_tensor, (array,)) if type(thing) is torch.Tensor else NotImplemented


def _tensor(array: Any) -> Any:
    import torch

    return torch.from_numpy(array)


def _parameter(array: Any, requires_grad: bool) -> Any:
    import torch

    return torch.nn.Parameter(torch.from_numpy(array), requires_grad)
