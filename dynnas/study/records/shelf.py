"""The shelf of a study: networks that a user would otherwise take, on the same clock as the front."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dynnas.documents import Document

DOCUMENT = Document("dynnas_shelf", 1, "delete it, and run dynnas shelf again")


@dataclass(frozen=True)
class ShelfNetwork:
    """A network that the search has not made.

    Attributes:
        name: by which it was named, such as `timm:resnet18`.
        metrics: by name: `latency_ms` on the scale of the study, `params` and `macs` where known, and
            for a trained network the scores of the task, those on the test split with `test_` before.
        interval_ms: 95% interval of the latency.
        epochs: of its training by the study's recipe; 0 if it was only timed.
        start: what `dynnas elastic` takes to begin with it: its trained weights, a file in the study's
            folder, and options; nothing where it was not trained, or is known by no name.
    """

    name: str
    metrics: Mapping[str, float]
    interval_ms: tuple[float, float]
    epochs: int = 0
    start: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shelf(Sequence[ShelfNetwork]):
    """The networks of a shelf, the fastest first."""

    networks: tuple[ShelfNetwork, ...] = ()

    def __len__(self) -> int:
        return len(self.networks)

    def __getitem__(self, index: Any) -> Any:
        """Return a network, or some of them."""
        return self.networks[index]

    def __iter__(self) -> Iterator[ShelfNetwork]:
        return iter(self.networks)

    def with_networks(self, networks: Sequence[ShelfNetwork]) -> Shelf:
        """Return a shelf with these as well, which take the places of those of the same names."""
        new = {network.name: network for network in (*self.networks, *networks)}
        return Shelf(tuple(sorted(new.values(), key=lambda each: each.metrics["latency_ms"])))

    def to_json(self) -> str:
        """Return a document that `load` reads back."""
        return DOCUMENT.write({"networks": [asdict(network) for network in self.networks]})

    @staticmethod
    def load(path: Path) -> Shelf:
        """Read what `to_json` wrote.

        Raises:
            StudyError: not such a document, or of another format.
        """
        return DOCUMENT.load(path, _shelf)


def _shelf(document: Mapping[str, Any]) -> Shelf:
    return Shelf(
        tuple(
            ShelfNetwork(
                **{
                    **network,
                    "interval_ms": tuple(network["interval_ms"]),
                    "start": tuple(network.get("start", ())),
                }
            )
            for network in document["networks"]
        )
    )
