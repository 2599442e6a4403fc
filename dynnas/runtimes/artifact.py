"""Artifacts: networks compiled for a runtime. The same artifact is timed, sent to a device and shipped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

ONNX_MODEL = "application/onnx"
TORCH_NETWORK = "application/vnd.dynnas.network"
TORCH_PROGRAM = "application/vnd.pytorch.pt2"


@dataclass(frozen=True)
class Artifact:
    """A network compiled for a runtime.

    Attributes:
        files: contents by file name.
        entry: the name of the file that is loaded.
        media_type: format of the entry, such as `application/onnx`.
        runtime: name of the runtime that loads it.
        metadata: what the files do not say: `device`, `dtype`, `batch` (images in a call), `shape` (channels,
            height and width of an image), and what a runtime adds.
        live: the network in the memory of the process that compiled it, from which the files are written
            when they are first read; None where files are all there is. It does not travel.
    """

    files: Mapping[str, bytes]
    entry: str
    media_type: str
    runtime: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    live: Any = field(default=None, compare=False, repr=False)

    @property
    def data(self) -> bytes:
        """The content of the entry."""
        return self.files[self.entry]

    @property
    def batch(self) -> int:
        """Return the number of images in a call."""
        return int(self.metadata.get("batch", "1"))

    @property
    def dtype(self) -> str:
        """Return the numeric type of the computation; inputs and outputs are float32."""
        return self.metadata.get("dtype", "float32")

    @property
    def quantized(self) -> str:
        """Return the quantisation of weights and activations, as in `TargetSettings.quantize`."""
        return self.metadata.get("quantize", "none")

    @property
    def device(self) -> str:
        """The kind of device it is compiled for, `cpu` or `cuda`."""
        return self.metadata.get("device", "cpu")

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of `to_bytes`, by which it is known where it was sent."""
        return hashlib.sha256(self._bytes).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the whole artifact for `from_bytes`; nothing in it is executed when it is read."""
        return self._bytes

    @cached_property
    def _bytes(self) -> bytes:
        import numpy as np  # here, as runtimes are listed where numpy is not wanted

        from dynnas.runtimes.document import write_document

        header = {
            "entry": self.entry,
            "media_type": self.media_type,
            "runtime": self.runtime,
            "metadata": dict(self.metadata),
        }
        return write_document(
            header, {name: np.frombuffer(content, np.uint8) for name, content in self.files.items()}
        )

    @staticmethod
    def from_bytes(data: bytes) -> Artifact:
        """Read what `to_bytes` returned.

        Raises:
            DocumentError: it is damaged.
        """
        from dynnas.runtimes.document import DocumentError, read_document

        header, arrays = read_document(data)
        try:
            artifact = Artifact(
                files={name: array.tobytes() for name, array in arrays.items()},
                entry=str(header["entry"]),
                media_type=str(header["media_type"]),
                runtime=str(header["runtime"]),
                metadata={str(name): str(value) for name, value in header["metadata"].items()},
            )
        except (KeyError, AttributeError) as error:
            raise DocumentError(f"no artifact: {error!r}"[:300]) from error
        if artifact.entry not in artifact.files:
            raise DocumentError(f"an artifact without its file {artifact.entry!r}"[:300])
        return artifact


class LazyFiles(Mapping[str, bytes]):
    """Files that are written when they are first read.

    Args:
        writers: for each name what makes the content.
    """

    def __init__(self, writers: Mapping[str, Callable[[], bytes]]) -> None:
        self._writers = dict(writers)
        self._written: dict[str, bytes] = {}

    def __getitem__(self, name: str) -> bytes:
        if name not in self._written:
            self._written[name] = self._writers[name]()
        return self._written[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._writers)

    def __len__(self) -> int:
        return len(self._writers)
