"""The results of training networks after the search: `trained.json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dynnas.documents import Document
from dynnas.metric import Metric
from dynnas.pareto.noise import tested

DOCUMENT = Document(
    "dynnas_trained", 2, "delete it, and train again: finished trainings are found in their folders"
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
        metric: the score by which the task ranks.
        inherited: that of the search split with the supernet's weights, as the search saw it.
        scores: of the search and (`test_`) the test split by the names of their metrics, thresholds of exits
            as searched.
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
    metric: Metric
    inherited: float
    scores: Mapping[str, float]
    exit_shares: tuple[float, ...]
    weights_digest: str
    file: str
    losses: tuple[float, ...]

    @property
    def score(self) -> float:
        """Return the score of the search split by which the task ranks."""
        return self.scores[self.metric.name]

    @property
    def test_score(self) -> float:
        """Return that of the test split."""
        return self.scores[tested(self.metric.name)]


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
    return Trained(**{**document, **lists, "metric": Metric(**document["metric"])})
