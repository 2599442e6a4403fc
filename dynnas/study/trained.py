"""The results of training networks after the search: `trained.json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dynnas.documents import Document

DOCUMENT = Document(
    "dynnas_trained", 1, "delete it, and train again: finished trainings are found in their folders"
)


@dataclass(frozen=True)
class Trained:
    """One training of a network of the study, finished.

    Attributes:
        name: of the training: the network's key and a digest of the settings.
        key: of the architecture.
        start, teacher, weights: as in `dynnas.training.Recipe`.
        epochs, seed: of the training.
        settings: all of the recipe.
        inherited_accuracy: on the search split with the supernet's weights, as the search saw it.
        accuracy, test_accuracy: shares on the search and the test split, thresholds of exits as searched.
        exit_shares: shares of search images that leave at each exit, then at the head.
        weights_digest: of the weights in `file`.
        file: relative to the study's folder.
        losses: mean training loss of each epoch.
    """

    name: str
    key: str
    start: str
    teacher: str
    weights: str
    epochs: int
    seed: int
    settings: Mapping[str, Any]
    inherited_accuracy: float
    accuracy: float
    test_accuracy: float
    exit_shares: tuple[float, ...]
    weights_digest: str
    file: str
    losses: tuple[float, ...]


def trained_to_json(trained: Iterable[Trained]) -> str:
    """Return a document that `read_trained` reads back."""
    return DOCUMENT.write({"networks": [asdict(each) for each in trained]})


def read_trained(path: Path) -> tuple[Trained, ...]:
    """Read what `trained_to_json` made; nothing where there is no file.

    Raises:
        StudyError: not such a document, or of another format.
    """
    if not path.exists():
        return ()
    return DOCUMENT.load(path, lambda content: tuple(_trained(each) for each in content["networks"]))


def _trained(document: Mapping[str, Any]) -> Trained:
    lists = {name: tuple(value) for name, value in document.items() if isinstance(value, list)}
    return Trained(**{**document, **lists})
