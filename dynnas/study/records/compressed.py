"""The results of compressing networks of a study: `compressed.json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dynnas.documents import Document
from dynnas.metric import Metric

DOCUMENT = Document("dynnas_compressed", 2, "delete it, and compress again")


@dataclass(frozen=True)
class Figures:
    """The scores and costs of a network.

    Attributes:
        scores: of the search and (`test_`) the test split by the names of their metrics, of the form that
            ships.
        bytes: of the file that ships.
        file: that file, relative to the study's folder.
        latency_ms, interval_ms: mean over images and its 95% interval, measured in the same rounds as the
            other form.
        macs, params: of the network; None for a graph.
    """

    scores: Mapping[str, float]
    bytes: int
    file: str
    latency_ms: float
    interval_ms: tuple[float, float]
    macs: int | None
    params: int | None


@dataclass(frozen=True)
class Compressed:
    """One pass over one network of the study.

    Attributes:
        name: the network's key, the pass, and a digest of its settings.
        key: of the architecture.
        method: the pass: `int8`, `prune`, `cluster` or `lottery`.
        source: the weights it began with: `inherited`, or the name of a training.
        options: of the pass.
        settings: the recipe of the tuning; None for a pass without.
        metric: the score by which the task ranks.
        before, after: the network in float32, and what the pass made of it.
        controls: scores of what the pass made on the way, by name.
        details: what else the pass has to tell.
        environment: digest of where the latencies were measured.
        file, weights_digest: the resulting network in torch, relative to the study's folder, and its weights;
            None for a graph.
    """

    name: str
    key: str
    method: str
    source: str
    options: Mapping[str, float | str]
    settings: Mapping[str, Any] | None
    metric: Metric
    before: Figures
    after: Figures
    controls: Mapping[str, Mapping[str, float]]
    details: Mapping[str, Any]
    environment: str
    file: str | None
    weights_digest: str | None


def compressed_to_json(compressed: Iterable[Compressed]) -> str:
    """Return a document that `read_compressed` reads back."""
    return DOCUMENT.write({"networks": [asdict(each) for each in compressed]})


def read_compressed(path: Path) -> tuple[Compressed, ...]:
    """Read what `compressed_to_json` made; nothing where there is no file.

    Raises:
        StudyError: not such a document, or of another format.
    """
    if not path.exists():
        return ()
    return DOCUMENT.load(path, lambda content: tuple(_compressed(each) for each in content["networks"]))


def _compressed(document: Mapping[str, Any]) -> Compressed:
    forms = {name: _figures(document[name]) for name in ("before", "after")}
    return Compressed(**{**document, **forms, "metric": Metric(**document["metric"])})


def _figures(document: Mapping[str, Any]) -> Figures:
    low, high = document["interval_ms"]
    return Figures(**{**document, "interval_ms": (low, high)})
