"""Dynamic networks of a study beside static ones of the same supernet, image by image and in the same rounds.

    python studies/imagenette/results.py STUDY [STUDY ...] [--seconds 2] [--out DIR]

Of each study, of `spaces/imagenette.yaml` or any other with exits and gates, these networks are taken:

- the static ones on the front of all static candidates of the search and its controls;
- the dynamic ones on the front of all dynamic candidates;
- for each of these the same network with nothing left out, which is timed only;
- the cascades of the study, where `dynnas cascade STUDY` made some.

All are timed in the same rounds, and answer all search and test images. Which networks are compared is
decided by the search images alone:

- the most accurate static one that takes no longer in the mean, by the test images that only one of the two
  answers rightly;
- the fastest static one that is as accurate;
- images that leave drawn at random, as many at each exit or after each network: what deciding by the image
  gives.

Saved time at saved multiply-adds is that of the same network with nothing left out. `results.json` keeps
what it has of other studies. `front-test.png` shows the networks of all given studies, which differ by their
seed, by their answers to the test images.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))  # where `shared` lies
import numpy as np
import torch
from compared import draw
from shared import run_study

import dynnas as dn
from dynnas.candidates.candidate import workload_of
from dynnas.cli.progress import show_progress
from dynnas.data.dataset import Dataset, Split
from dynnas.files import atomic_write, replacing
from dynnas.latency.cascades import Overhead
from dynnas.latency.cascades import workload_of as cascade_workload
from dynnas.latency.dependent import representative
from dynnas.latency.latency import Latency
from dynnas.latency.rounds import Workload
from dynnas.metrics.accuracy import predict
from dynnas.nn.exits.exits import leave
from dynnas.nn.networks.cost import cost
from dynnas.nn.networks.network import Network
from dynnas.pareto.front import Front
from dynnas.progress import Progress
from dynnas.report.tables.table import dynamic_layers, exits, is_dynamic
from dynnas.runtimes.chaining import chain
from dynnas.search.cascades import PredictionMatrix, score_chain
from dynnas.search.evaluators.supernet import open_meter
from dynnas.settings.settings import TargetSettings
from dynnas.space.architecture import Architecture, Value
from dynnas.space.gene import Gene
from dynnas.space.moves import choose_each
from dynnas.space.space import Space
from dynnas.study.records.cascades import Cascaded
from dynnas.study.static_part import static_part
from dynnas.study.study import Study
from dynnas.workflows.cascades.cascade import IMAGES

HERE = Path(__file__).parent

LEGEND = {"static": "static", "dynamic": "exits, skipped blocks", "cascade": "cascades of two"}
"""Names of the kinds of networks in the picture."""


@dataclass(frozen=True)
class Answers:
    """What a network answers to the images of a split.

    Attributes:
        right: (N,) bool, the images that it answers rightly.
        confidence: (N,) float32, how sure it is of them.
        way: (N,) int, the exit by which they leave, or the network of a cascade.
        ways: (exits and head,) shares of all images that are answered rightly there.
        macs: (N,) float, what they cost.
    """

    right: np.ndarray
    confidence: np.ndarray
    way: np.ndarray
    ways: np.ndarray
    macs: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """The shares of the images that leave by each way, (exits and head,)."""
        return np.bincount(self.way, minlength=len(self.ways)) / len(self.way)


@dataclass(frozen=True)
class Row:
    """A network, as it answers and takes time.

    Attributes:
        kind: static, dynamic, whole (nothing left out) or cascade.
        what: where it decides by the image.
        search, test: its answers; None if it was timed only.
        macs: in the mean over the test images.
        latency: over search images.
        whole: key of the same network with nothing left out, if it leaves something out.
    """

    key: str
    kind: str
    what: str
    search: Answers | None
    test: Answers | None
    macs: float
    latency: Latency
    whole: str = ""

    @property
    def ms(self) -> float:
        """The mean over images."""
        return self.latency.mean_ms

    @property
    def accuracy(self) -> float:
        """The share of the search images that are answered rightly."""
        assert self.search is not None
        return float(self.search.right.mean())

    @property
    def right(self) -> np.ndarray:
        """The test images that are answered rightly, (N,) bool."""
        assert self.test is not None
        return self.test.right


def without_choices(space: Space, architecture: Architecture) -> Architecture:
    """Return the same network with nothing left out."""
    part = static_part(space)
    assert part is not None

    def kept(gene: Gene) -> Value:
        value = architecture.get(gene.name)
        return value if value in gene.values else gene.values[0]

    return choose_each(part, kept)


def what_is_dynamic(architecture: Architecture) -> str:
    """Say where a network decides by the image."""
    return "; ".join(filter(None, (dynamic_layers(architecture), exits(architecture)))) or "-"


def networks_of(study: Study) -> dict[str, tuple[str, Architecture]]:
    """Return the networks that are compared, by their keys, with their kinds."""
    controls = [each for group in study.controls.groups.values() for each in group]
    known = {each.key: each for each in (*study.candidates, *controls)}
    found: dict[str, tuple[str, Architecture]] = {}
    for kind in ("static", "dynamic"):
        own = [each for each in known.values() if is_dynamic(each.architecture) == (kind == "dynamic")]
        found |= {each.key: (kind, each.architecture) for each in Front.of(own, study.goal.objectives)}
    for key in {key for cascade in study.cascades for key in cascade.networks}:
        architecture = known[key].architecture
        found.setdefault(key, ("dynamic" if is_dynamic(architecture) else "static", architecture))
    for _, architecture in list(found.values()):
        if is_dynamic(architecture):
            whole = without_choices(study.space, architecture)
            found.setdefault(whole.key, ("whole", whole))
    return found


def answers_of(network: Network, data: Dataset, split: Split, file: Path) -> Answers:
    """Run a network on the images of a split, once for a `file`."""
    if file.exists():
        with np.load(file, allow_pickle=False) as known:
            return Answers(**known)
    said = predict(network, data, split.images)
    outputs = leave(said.outputs, network.config.exits)[0]
    spent = cost(network.config).image_macs(said.left, [each.usage.double() for each in said.decisions])
    found = Answers(
        right=(outputs.argmax(1) == split.targets).numpy(),
        confidence=data.task.confidence(outputs).numpy(),
        way=said.left.numpy(),
        ways=np.array([(each.argmax(1) == split.targets).double().mean() for each in said.outputs]),
        macs=spent.numpy(),
    )
    with replacing(file) as opened:
        np.savez(opened, **asdict(found))
    return found


def chained(cascade: Cascaded, members: Sequence[Answers]) -> Answers:
    """Return what a cascade answers, from what its networks do."""
    confidence, right, macs = (
        np.stack([getattr(each, name) for each in members]) for name in ("confidence", "right", "macs")
    )
    count = len(members)
    pool = PredictionMatrix(confidence, right.astype(float), macs, ((0, 0),) * count, Overhead.nothing(count))
    answered, spent, stage = score_chain(pool, range(count), cascade.thresholds)
    chosen = confidence[stage, np.arange(len(stage))]
    return Answers(answered.astype(bool), chosen, stage, right.mean(axis=1), spent)


def paths(stage: np.ndarray, members: Sequence[Answers]) -> np.ndarray:
    """Number the paths of images through the networks of a cascade and their exits, (N,)."""
    seen = [np.where(stage >= place, each.way, -1) for place, each in enumerate(members)]
    return np.unique(np.stack(seen), axis=1, return_inverse=True)[1].reshape(-1)


def said_of(
    study: Study, networks: Mapping[str, Network], progress: Progress
) -> dict[str, tuple[Answers, Answers]]:
    """Return what networks and the cascades of a study answer to search and test images.

    They are kept in the study's folder, for the weights that it has.
    """
    data, kept = study.dataset, study.folder.path / "answers"
    weights = study.supernet.digest()[:12]
    said: dict[str, tuple[Answers, Answers]] = {}
    with progress.task(f"{study.name}: answers", total=len(networks)) as task:
        for key, network in networks.items():
            here = kept / f"{key}-{weights}"
            said[key] = (
                answers_of(network, data, data.search, here / "search.npz"),
                answers_of(network, data, data.test, here / "test.npz"),
            )
            task.advance(note=key)
    for cascade in study.cascades:
        members = [said[key] for key in cascade.networks]
        search, test = ([each[split] for each in members] for split in (0, 1))
        said[cascade.key] = chained(cascade, search), chained(cascade, test)
    return said


def cascade_workloads(
    study: Study,
    networks: Mapping[str, Network],
    said: Mapping[str, tuple[Answers, Answers]],
    target: TargetSettings,
) -> dict[str, Workload]:
    """Return whole cascades, on search images that take each path as often as all of them do."""
    found = {}
    for cascade in study.cascades:
        members = [networks[key] for key in cascade.networks]
        built = chain(members, cascade.thresholds, cascade.networks, study.dataset.size)
        taken = paths(said[cascade.key][0].way, [said[key][0] for key in cascade.networks])
        few = representative(taken, IMAGES)
        found[cascade.key] = cascade_workload(built, study.dataset, few, target, taken[few])
    return found


def rows_of(study: Study, seconds: float, progress: Progress) -> dict[str, Row]:
    """Run and time the networks of a study."""
    chosen = networks_of(study)
    networks = {key: study.extractor.candidate(each).copy() for key, (_, each) in chosen.items()}
    asked = {key: each for key, each in networks.items() if chosen[key][0] != "whole"}
    said = said_of(study, asked, progress)
    meter = open_meter(study.folder.anchors, study.space, study.dataset)
    workloads = {key: workload_of(each, study.dataset, meter.target) for key, each in networks.items()}
    workloads |= cascade_workloads(study, networks, said, meter.target)
    progress.message(f"{study.name}: {len(workloads)} networks are timed for {seconds:g} seconds each")
    timed = meter.measure_images(list(workloads.values()), seconds * len(workloads))
    latencies = dict(zip(workloads, (latency for latency, _ in timed), strict=True))
    rows = {}
    for key, (kind, architecture) in chosen.items():
        search, test = said.get(key, (None, None))
        macs = float(test.macs.mean()) if test else float(cost(networks[key].config).macs)
        whole = without_choices(study.space, architecture).key if kind == "dynamic" else ""
        what = what_is_dynamic(architecture)
        rows[key] = Row(key, kind, what, search, test, macs, latencies[key], whole)
    for cascade in study.cascades:
        first, *others = cascade.networks
        limits = zip(others, cascade.thresholds, strict=True)
        what = ", ".join([first, *(f"{key} below {sure:.2f}" for key, sure in limits)])
        both = said[cascade.key]
        macs = float(both[1].macs.mean())
        rows[cascade.key] = Row(cascade.key, "cascade", what, *both, macs, latencies[cascade.key])
    return rows


def compared(rows: Mapping[str, Row]) -> list[dict[str, Any]]:
    """Return each dynamic network beside static ones, the fastest first, and the static front itself."""
    static = [row for row in rows.values() if row.kind == "static"]
    found = []
    for row in sorted(rows.values(), key=lambda each: each.ms):
        if row.test is None:
            continue
        entry: dict[str, Any] = {
            "key": row.key,
            "kind": row.kind,
            "what": row.what,
            "accuracy": row.accuracy,
            "test_accuracy": float(row.right.mean()),
            "ms": row.ms,
            "interval_ms": list(row.latency.interval_ms),
            "p95_ms": row.latency.p95_ms,
            "macs": row.macs,
            "exits": row.test.shares.tolist(),
        }
        if row.kind != "static":
            entry |= beside(row, static)
        if len(row.test.ways) > 1:
            entry["random_test_accuracy"] = float(row.test.shares @ row.test.ways)
        if row.whole:
            whole = rows[row.whole]
            entry["whole"] = {"key": whole.key, "ms": whole.ms, "macs": whole.macs}
            entry |= {"saved_macs": 1 - row.macs / whole.macs, "saved_ms": 1 - row.ms / whole.ms}
        found.append(entry)
    return found


def beside(row: Row, static: Sequence[Row]) -> dict[str, Any]:
    """Return what a network that decides by the image gains over static ones."""
    entry: dict[str, Any] = {}
    no_slower = [each for each in static if each.ms <= row.ms]
    if no_slower:
        best = max(no_slower, key=lambda each: (each.accuracy, -each.ms))
        ours, theirs = int((row.right & ~best.right).sum()), int((best.right & ~row.right).sum())
        count = len(row.right)
        difference = (ours - theirs) / count
        error = ((ours + theirs) / count - difference**2) ** 0.5 / count**0.5
        entry["at_equal_time"] = {
            "key": best.key, "ms": best.ms, "test_accuracy": float(best.right.mean()),
            "difference": difference, "standard_error": error,
        }  # fmt: skip
    as_good = [each for each in static if each.accuracy >= row.accuracy]
    if as_good:
        fastest = min(as_good, key=lambda each: each.ms)
        entry["at_equal_accuracy"] = {
            "key": fastest.key, "ms": fastest.ms, "test_accuracy": float(fastest.right.mean()),
            "share_of_time": row.ms / fastest.ms,
        }  # fmt: skip
    return entry


def table(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return the comparison as a table."""
    lines = [
        "| key | decides by the image | test % | mean ms | p95 | MMACs | static in that time, test % "
        "| difference | static as accurate, ms | saved MACs | saved ms | left at random, test % |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in entries:
        cells = [
            each["key"],
            each["what"],
            f"{100 * each['test_accuracy']:.1f}",
            f"{each['ms']:.3f}",
            f"{each['p95_ms']:.3f}",
            f"{each['macs'] / 1e6:.1f}",
        ]
        time, good = each.get("at_equal_time"), each.get("at_equal_accuracy")
        cells.append(f"{100 * time['test_accuracy']:.1f}" if time else "")
        cells.append(f"{100 * time['difference']:+.1f} ± {100 * time['standard_error']:.1f}" if time else "")
        cells.append(f"{good['ms']:.3f}" if good else "")
        cells += [f"{each[name]:.0%}" if name in each else "" for name in ("saved_macs", "saved_ms")]
        random = each.get("random_test_accuracy")
        cells.append(f"{100 * random:.1f}" if random is not None else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Compare the networks of some studies, and write `results.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="+", help="names or folders")
    parser.add_argument("--seconds", type=float, default=2.0, help="of timing, for each network")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of results.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    file = given.out / "results.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    tables, points = [], []
    with show_progress() as progress:
        for name in given.studies:
            study = dn.open_study(name)
            found = compared(rows_of(study, given.seconds, progress))
            known[study.name] = found
            points += [
                {"network": LEGEND[each["kind"]], "seed": study.settings.train.seed, "latency_ms": each["ms"],
                 "test_accuracy": each["test_accuracy"]}
                for each in found
            ]  # fmt: skip
            atomic_write(file, json.dumps(known, indent=1) + "\n")
            tables.append(f"{study.name}\n\n{table(found)}\n")
    draw(points, "test_accuracy", given.out / "front-test.png", lines=(LEGEND["static"], LEGEND["cascade"]))
    print("\n".join(tables))


if __name__ == "__main__":
    run_study(main)
