"""What became of networks that were trained after the search: `trained.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dynnas.errors import StudyError

FORMAT = 1


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
    """A document that `read_trained` reads back."""
    document = {"dynnas_trained": FORMAT, "networks": [asdict(each) for each in trained]}
    return json.dumps(document, indent=2) + "\n"


def read_trained(path: Path) -> tuple[Trained, ...]:
    """Read what `trained_to_json` made; nothing where there is no file.

    Raises:
        StudyError: not such a document, or of another format.
    """
    if not path.exists():
        return ()
    try:
        document = json.loads(path.read_text())
        if document["dynnas_trained"] != FORMAT:
            raise StudyError(
                f"{path}: found format {document['dynnas_trained']!r}, this dynnas reads {FORMAT}"
            )
        return tuple(_trained(each) for each in document["networks"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StudyError(
            f"{path}: not what dynnas wrote ({error!r}); delete it, and train again: finished trainings are "
            "found in their folders"
        ) from error


def _trained(document: Mapping[str, Any]) -> Trained:
    lists = {name: tuple(value) for name, value in document.items() if isinstance(value, list)}
    return Trained(**{**document, **lists})
