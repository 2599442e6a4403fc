"""Dynamic networks of a study beside static ones of the same supernet, image by image and in the same rounds.

    python studies/imagenette/results.py STUDY [STUDY ...] [--seconds 2] [--out DIR]

Of each study, of `spaces/imagenette.yaml` or any other with exits and gates, these networks are taken:

- the static ones on the front of all static candidates of the search and its controls;
- the dynamic ones on the front of all dynamic candidates;
- for each of these the same network with nothing left out.

All are timed in the same rounds, and answer all test images. Which networks are compared is decided by the
search images alone:

- the most accurate static one that takes no longer in the mean, by the test images that only one of the two
  answers rightly;
- the fastest static one that is as accurate;
- images that leave drawn at random, as many at each exit: what deciding by the image gives.

Saved time at saved multiply-adds is that of the same network with nothing left out. `results.json` keeps
what it has of other studies.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))  # where `shared` lies
import numpy as np
import torch
from shared import run_study

import dynnas as dn
from dynnas.candidates.candidate import workload_of
from dynnas.cli.progress import show_progress
from dynnas.files import atomic_write
from dynnas.latency.latency import Latency
from dynnas.metrics.accuracy import predict
from dynnas.nn.exits.exits import leave
from dynnas.nn.networks.cost import cost
from dynnas.pareto.front import Front, ScoredArchitecture
from dynnas.progress import Progress
from dynnas.report.tables.table import dynamic_layers, exits, is_dynamic
from dynnas.search.evaluators.supernet import open_meter
from dynnas.space.architecture import Architecture, Value
from dynnas.space.gene import Gene
from dynnas.space.moves import choose_each
from dynnas.space.space import Space
from dynnas.study.static_part import static_part
from dynnas.study.study import Study

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Row:
    """A network, as it answers and takes time.

    Attributes:
        accuracy: on the search images, a share.
        right: (N,) bool, the test images that it answers rightly.
        random: the same if as many images, drawn at random, left at each exit; NaN without exits.
        macs: in the mean over the test images.
        exits: shares of the test images that leave at each exit, then at the head.
        latency: over search images.
    """

    key: str
    what: str
    accuracy: float
    right: np.ndarray
    random: float
    macs: float
    exits: Sequence[float]
    latency: Latency

    @property
    def ms(self) -> float:
        """The mean over images."""
        return self.latency.mean_ms


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


def networks_of(study: Study) -> dict[str, tuple[str, ScoredArchitecture | Architecture]]:
    """Return the networks that are compared, by their keys, with their kinds."""
    controls = [each for group in study.controls.groups.values() for each in group]
    known = {each.key: each for each in (*study.candidates, *controls)}
    found: dict[str, tuple[str, ScoredArchitecture | Architecture]] = {}
    for kind in ("static", "dynamic"):
        own = [each for each in known.values() if is_dynamic(each.architecture) == (kind == "dynamic")]
        found |= {each.key: (kind, each) for each in Front.of(own, study.goal.objectives)}
    for _, each in list(found.values()):
        if is_dynamic(each.architecture):
            whole = without_choices(study.space, each.architecture)
            found.setdefault(whole.key, ("whole", whole))
    return found


def rows_of(study: Study, seconds: float, progress: Progress) -> dict[str, tuple[str, Row, Architecture]]:
    """Run and time the networks of a study."""
    data = study.dataset
    chosen = networks_of(study)
    architectures = {
        key: each if isinstance(each, Architecture) else each.architecture
        for key, (_, each) in chosen.items()
    }
    networks = {key: study.extractor.candidate(each).copy() for key, each in architectures.items()}
    meter = open_meter(study.folder.anchors, study.space, data)
    progress.message(f"{study.name}: {len(networks)} networks are timed for {seconds:g} seconds each")
    workloads = [workload_of(each, data, meter.target) for each in networks.values()]
    latencies = [latency for latency, _ in meter.measure_images(workloads, seconds * len(workloads), seed=0)]
    found = {}
    for (key, network), latency in zip(networks.items(), latencies, strict=True):
        progress.message(f"{study.name}: {key} answers")
        test, search = (predict(network, data, split.images) for split in (data.test, data.search))
        right = leave(test.outputs, network.config.exits)[0].argmax(1) == data.test.targets
        seen = leave(search.outputs, network.config.exits)[0].argmax(1) == data.search.targets
        ways = len(network.config.ways)
        shares = torch.bincount(test.left, minlength=ways).double() / len(right)
        each_way = torch.stack(
            [(output.argmax(1) == data.test.targets).double().mean() for output in test.outputs]
        )
        spent = cost(network.config).image_macs(test.left, [each.usage.double() for each in test.decisions])
        kind, _ = chosen[key]
        found[key] = (
            kind,
            Row(
                key,
                what_is_dynamic(architectures[key]),
                float(seen.double().mean()),
                right.numpy(),
                float(shares @ each_way) if ways > 1 else float("nan"),
                float(spent.mean()),
                shares.tolist(),
                latency,
            ),
            architectures[key],
        )
    return found


def compared(study: Study, rows: Mapping[str, tuple[str, Row, Architecture]]) -> list[dict[str, Any]]:
    """Return each dynamic network beside static ones, the fastest first, and the static front itself."""
    static = [row for kind, row, architecture in rows.values() if not is_dynamic(architecture)]
    found = []
    for kind, row, architecture in sorted(rows.values(), key=lambda each: each[1].ms):
        if kind == "whole":
            continue
        entry: dict[str, Any] = {
            "key": row.key,
            "kind": kind,
            "what": row.what,
            "accuracy": row.accuracy,
            "test_accuracy": float(row.right.mean()),
            "ms": row.ms,
            "interval_ms": list(row.latency.interval_ms),
            "p95_ms": row.latency.p95_ms,
            "macs": row.macs,
            "exits": list(row.exits),
        }
        if kind == "dynamic":
            entry |= beside(row, static, rows[without_choices(study.space, architecture).key][1])
        found.append(entry)
    return found


def beside(row: Row, static: Sequence[Row], whole: Row) -> dict[str, Any]:
    """Return what a dynamic network gains."""
    entry: dict[str, Any] = {
        "whole": {
            "key": whole.key,
            "test_accuracy": float(whole.right.mean()),
            "ms": whole.ms,
            "macs": whole.macs,
        },
        "saved_macs": 1 - row.macs / whole.macs,
        "saved_ms": 1 - row.ms / whole.ms,
        "random_test_accuracy": row.random,
    }
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
        if each["kind"] == "dynamic":
            random = each["random_test_accuracy"]
            cells += [f"{each['saved_macs']:.0%}", f"{each['saved_ms']:.0%}"]
            cells.append(f"{100 * random:.1f}" if random == random else "")
        else:
            cells += ["", "", ""]
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
    tables = []
    with show_progress() as progress:
        for name in given.studies:
            study = dn.open_study(name)
            found = compared(study, rows_of(study, given.seconds, progress))
            known[study.name] = found
            atomic_write(file, json.dumps(known, indent=1) + "\n")
            tables.append(f"{study.name}\n\n{table(found)}\n")
    print("\n".join(tables))


if __name__ == "__main__":
    run_study(main)
