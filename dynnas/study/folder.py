"""A study's folder: where its files lie, what the study was made with, and whether it may go on."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dynnas.documents import Document
from dynnas.errors import StudyError
from dynnas.language.settings_reader import SECTIONS
from dynnas.metric import Metric
from dynnas.search.storage.studies import differences, gene_differences
from dynnas.search.storage.urls import sqlite_url
from dynnas.settings.settings import Settings, TargetSettings

DOCUMENT = Document("dynnas_study", 1, "delete the study with --fresh")

# Settings that say how far and how to search, not what the numbers mean: a study may go on with others.
_FREE = {
    f"search.{name}"
    for name in (
        "trials",
        "minutes",
        "target",
        "patience",
        "workers",
        "ray",
        "sampler",
        "starts",
        "earlier",
        "seed",
        "population",
        "constraints",
        "controls",
        "objectives",  # compared by themselves
    )
} | {
    "train.processes",
    "train.init",  # the digest of its content names the training
    "data.memory_gb",  # images are the same bytes wherever they come from
    "data.cache_gb",
    "data.workers",
    "data.source",  # the digest of the images says whether they are the same, wherever they lie
}


@dataclass(frozen=True)
class StudyRecord:
    """The record of what a study was made with.

    Attributes:
        name: of the trials in their storage, for the dashboard.
        storage: URL of a database outside the folder, without password; None for the folder's own.
        space_name, space: name of the space, and digest of its genes and network.
        data: digest of the images and how they are split.
        settings: as of the last run.
        class_names: of the images, in the order of the labels; empty for a table.
        images: how many the train, search and test splits have; empty for a table.
        metrics: the scores of the task; empty for a table.
    """

    name: str
    storage: str | None
    space_name: str
    space: str
    data: str
    settings: Settings
    class_names: tuple[str, ...]
    images: tuple[int, ...]
    metrics: tuple[Metric, ...] = ()

    def to_json(self) -> str:
        """Return a document that `load` reads back."""
        return DOCUMENT.write(asdict(self))

    @staticmethod
    def load(path: Path) -> StudyRecord:
        """Read what `to_json` wrote.

        Raises:
            StudyError: not such a document, or of another format.
        """
        return DOCUMENT.load(
            path,
            lambda content: StudyRecord(
                **{
                    **content,
                    "settings": _settings(content["settings"]),
                    "class_names": tuple(content["class_names"]),
                    "images": tuple(content["images"]),
                    "metrics": tuple(Metric(**each) for each in content["metrics"]),
                }
            ),
        )

    def check_continues(
        self, other: StudyRecord, folder: Path, genes: Sequence[Mapping[str, Any]] = ({}, {})
    ) -> None:
        """Check that a study made with `other` can go on with this.

        Args:
            other: of the study that is there.
            folder: where it is, for the message.
            genes: values by gene, of this space and of that of `other`.

        Raises:
            StudyError: what was measured so far would not compare; it names all that differs.
        """
        kept = [
            {
                "storage": record.storage,
                "search.objectives": record.settings.search.objectives,
                **record.facts,
            }
            for record in (self, other)
        ]
        different = differences(*kept)
        if self.space != other.space:
            different += gene_differences(*genes)
        if different:
            raise StudyError(
                f"{folder} holds a study made with something else:\n  "
                + "\n  ".join(different)
                + "\ngive the new one another --name, or delete what is there with --fresh"
            )

    def check_data(
        self, data: str, class_names: tuple[str, ...], images: tuple[int, ...], folder: Path
    ) -> None:
        """Check that the images are those that the study was made with.

        Args:
            data: digest of the images that were read. class_names, images: as the attributes, of these.
            folder: of the study, for the message.

        Raises:
            StudyError: they differ: labels or splits would not mean what they meant; it says what differs.
        """
        if data == self.data:
            return
        added = [name for name in class_names if name not in self.class_names]
        missing = [name for name in self.class_names if name not in class_names]
        different = [
            *([f"classes were removed or renamed: {', '.join(missing)}"] if missing else []),
            *([f"classes were added or renamed: {', '.join(added)}"] if added else []),
        ]
        if not different and class_names != self.class_names:
            different = ["the classes have another order"]
        for split, now, before in zip(("train", "search", "test"), images, self.images, strict=False):
            if now != before:
                different.append(f"the {split} split has {now} images, had {before}")
        different = different or ["the pixels, the labels or the split of the images changed"]
        raise StudyError(
            f"{folder}: the data at {self.settings.data.source} are no longer those of the study:\n  "
            + "\n  ".join(different)
            + "\nrestore the data, or search these under another --name; equal images that moved are "
            "accepted: run the search again with their new place as data.source"
        )

    @property
    def facts(self) -> dict[str, Any]:
        """Return, by name, everything beside the objectives that the numbers of the study depend on."""
        settings = {
            f"{section}.{name}": value
            for section, values in asdict(self.settings).items()
            for name, value in values.items()
        }
        facts = {"space": self.space, "data": self.data}
        return facts | {name: value for name, value in settings.items() if name not in _FREE}


def _settings(document: Mapping[str, Any]) -> Settings:
    sections = {name: section(**_values(document[name])) for name, section in SECTIONS.items()}
    devices = {name: TargetSettings(**_values(each)) for name, each in document["devices"].items()}
    return Settings(**sections, devices=devices)


def _values(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in document.items()}


@dataclass(frozen=True)
class StudyFolder:
    """The files of one study."""

    path: Path

    @property
    def space(self) -> Path:
        """A copy of the space file."""
        return self.path / "space.yaml"

    @property
    def record(self) -> Path:
        """The `StudyRecord`."""
        return self.path / "settings.json"

    @property
    def trials(self) -> Path:
        """The trials, in Optuna's form."""
        return self.path / "study.db"

    @property
    def cache(self) -> Path:
        """Every evaluation, of trials and controls."""
        return self.path / "cache.db"

    @property
    def supernet(self) -> Path:
        """Return the folder of the training's checkpoint."""
        return self.path / "supernet"

    @property
    def anchors(self) -> Path:
        """The scale of latencies."""
        return self.path / "anchors.json"

    def anchors_on(self, device: str) -> Path:
        """Return the scale of latencies on a further device."""
        return self.path / f"anchors-{device}.json"

    @property
    def predictor(self) -> Path:
        """The predictor of latencies, if there is one."""
        return self.path / "predictor.json"

    @property
    def remeasuring(self) -> Path:
        """Return the state from which an interrupted `dynnas measure --all` continues."""
        return self.path / "remeasuring.json"

    @property
    def front(self) -> Path:
        """The finished front."""
        return self.path / "front.json"

    @property
    def controls(self) -> Path:
        """The controls, with which the front is compared."""
        return self.path / "controls.json"

    @property
    def shelf(self) -> Path:
        """The networks from elsewhere, with which the front is compared."""
        return self.path / "shelf.json"

    @property
    def shelf_weights(self) -> Path:
        """The folder of the trainings of networks from elsewhere."""
        return self.path / "shelf"

    @property
    def picture(self) -> Path:
        """The plot of the front."""
        return self.path / "front.png"

    @property
    def growth(self) -> Path:
        """The plot of the front's hypervolume over the trials."""
        return self.path / "hypervolume.png"

    @property
    def report(self) -> Path:
        """The page that explains the study."""
        return self.path / "report.html"

    @property
    def audit(self) -> Path:
        """The supernet's ranks against those of networks trained alone."""
        return self.path / "audit.json"

    @property
    def alone(self) -> Path:
        """The folder of the networks that an audit trains."""
        return self.path / "alone"

    @property
    def audit_picture(self) -> Path:
        """The plot of the audit."""
        return self.path / "audit.png"

    @property
    def trained(self) -> Path:
        """The networks that were trained after the search; `trained_weights` has their weights."""
        return self.path / "trained.json"

    @property
    def trained_weights(self) -> Path:
        """A folder for each training after the search."""
        return self.path / "trained"

    @property
    def compressed(self) -> Path:
        """The results of compression; `compressed_files` holds the files."""
        return self.path / "compressed.json"

    @property
    def compressed_files(self) -> Path:
        """A folder for each run of a pass."""
        return self.path / "compressed"

    @property
    def cascades(self) -> Path:
        """The chains of its networks that join the front."""
        return self.path / "cascades.json"

    @property
    def predictions(self) -> Path:
        """Return the folder of networks' predictions, by which chains are scored."""
        return self.path / "predictions"

    @property
    def latency(self) -> Path:
        """The folder of the plots of latency over images."""
        return self.path / "latency"

    @property
    def budgets(self) -> Path:
        """The folder of accuracies against expected cost, by network."""
        return self.path / "budget"

    @property
    def lock(self) -> Path:
        """The lock that is held by the process that drives the study."""
        return self.path / "lock"

    def url(self, record: StudyRecord) -> str:
        """Return the storage of the trials."""
        return record.storage or sqlite_url(self.trials)

    def owned(self) -> tuple[Path, ...]:
        """Return the study's files that exist: `--fresh` deletes these, and nothing else in the folder."""
        ends = ("", "-wal", "-shm")
        databases = [Path(f"{path}{end}") for path in (self.trials, self.cache) for end in ends]
        files = (
            self.space,
            self.record,
            self.anchors,
            self.predictor,
            self.remeasuring,
            self.front,
            self.controls,
            self.shelf,
            self.picture,
            self.growth,
            self.report,
            self.audit,
            self.audit_picture,
            self.trained,
            self.compressed,
            self.cascades,
            *sorted(self.path.glob(self.anchors_on("*").name)),
        )
        folders = (
            self.supernet,
            self.alone,
            self.latency,
            self.budgets,
            self.trained_weights,
            self.shelf_weights,
            self.compressed_files,
            self.predictions,
        )
        return tuple(path for path in (*files, *databases, *folders) if path.exists())

    def delete(self) -> None:
        """Delete what `owned` lists."""
        for path in self.owned():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def read_record(self) -> StudyRecord:
        """Return the record of what the study was made with.

        Raises:
            StudyError: there is no study here, or its record is damaged.
        """
        if not self.record.exists():
            raise StudyError(f"{self.path}: no study; `dynnas search SPACE.yaml` makes one")
        return StudyRecord.load(self.record)


def find_study(name_or_path: str | Path, studies: str | Path) -> StudyFolder:
    """Return the folder of the study of that name under `studies`, or at that path.

    Raises:
        StudyError: there is none.
    """
    places = (Path(studies) / name_or_path, Path(name_or_path))
    folder = next((place for place in places if StudyFolder(place).record.exists()), None)
    if folder is None:
        known = sorted(path.parent.name for path in Path(studies).glob(f"*/{StudyFolder(Path()).record}"))
        listed = f"; {studies} has {', '.join(known)}" if known else f"; {studies} has none"
        raise StudyError(f"no study {str(name_or_path)!r}{listed}; `dynnas search SPACE.yaml` makes one")
    return StudyFolder(folder)
