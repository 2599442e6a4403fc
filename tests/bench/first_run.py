"""The first command of a newcomer over several seeds: what it takes, and whether its front means something.

    python tests/bench/first_run.py [--seeds 0 1 2 3 4] [--space mobile] [--workers 2] [--studies DIR]

Each seed is one `dynnas search`, in a process of its own. Interrupted, the same command goes on: a finished
seed is not run again, and the processor time of all its runs adds up. Prints a table in Markdown, one row a
seed, and what is asked of the default:

* at least 8 members over a factor of at least 3 in time, whose order by search accuracy holds on the test
  split (Spearman),
* in at least four of five seeds dynamic members, and on the test split a hypervolume of the front that is no
  less than that of static networks alone, searched alike.

Time is processor time of the command and its children: on a busy machine the clock on the wall tells nothing.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from dynnas.language.parser import load_space
from dynnas.report.tables.table import is_dynamic
from dynnas.study.study import Study, open_study

MEMBERS, FACTOR = 8, 3.0
COLUMNS = (
    *("seed", "processor s", "wall s", "members", "dynamic", "fastest to slowest ms", "factor"),
    *(
        "search %",
        "test %",
        "Spearman",
        "optimism",
        "of it by choosing",
        "static HV %",
        "static HV % on test",
    ),
    "random HV %",
)


def run(space: str, seed: int, studies: Path, workers: int) -> dict[str, float]:
    """Search with one seed; the processor and wall seconds of this and earlier runs."""
    name = f"{load_space(space).name}-seed{seed}"
    record = studies / f"{name}.json"
    spent = json.loads(record.read_text()) if record.exists() else {"processor": 0.0, "wall": 0.0}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, "-m", "dynnas", "search", space, "--seed", str(seed)]
    done = (studies / name / "front.json").exists() and spent["processor"]
    try:
        if not done:
            options = ["--studies", str(studies), "--name", name, "--workers", str(workers)]
            subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
    finally:
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent["processor"] += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        spent["wall"] += 0 if done else time.monotonic() - start
        record.write_text(json.dumps(spent))
    return spent


def facts(study: Study) -> dict[str, float]:
    """What a front must show, by name."""
    front, compared = study.front, study.comparison
    times = [member.metrics["latency_ms"] for member in front]
    volumes, tested = compared.hypervolume, compared.test
    return {
        "members": len(front),
        "dynamic": sum(is_dynamic(member.architecture) for member in front),
        "fastest": min(times),
        "slowest": max(times),
        "factor": max(times) / min(times),
        "search": 100 * max(member.metrics["accuracy"] for member in front),
        "search_low": 100 * min(member.metrics["accuracy"] for member in front),
        "test": 100 * max(member.metrics["test_accuracy"] for member in front),
        "test_low": 100 * min(member.metrics["test_accuracy"] for member in front),
        "order": compared.order if compared.order is not None else float("nan"),
        "optimism": 100 * (compared.optimism or 0.0),
        "chosen": 100 * ((compared.optimism or 0.0) - (compared.unselected_optimism or 0.0)),
        "static": 100 * volumes["static"] / volumes["search"],
        "static_test": 100 * tested["static"] / tested["search"],
        "random": 100 * volumes["random"] / volumes["search"],
    }


def cells(seed: int, spent: dict[str, float], found: dict[str, float]) -> Iterator[str]:
    """The cells of one row."""
    yield str(seed)
    yield from (f"{spent[name]:.0f}" for name in ("processor", "wall"))
    yield from (f"{found[name]:.0f}" for name in ("members", "dynamic"))
    yield f"{found['fastest']:.3f} to {found['slowest']:.3f}"
    yield f"{found['factor']:.1f}"
    yield f"{found['search_low']:.1f} to {found['search']:.1f}"
    yield f"{found['test_low']:.1f} to {found['test']:.1f}"
    yield f"{found['order']:.2f}"
    yield from (f"{found[name]:.1f}" for name in ("optimism", "chosen", "static", "static_test", "random"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--space", default="mobile")
    parser.add_argument("--workers", type=int, default=1, help="processes that evaluate accuracy")
    parser.add_argument(
        "--studies", type=Path, help="where the studies are kept; a passing folder if not given"
    )
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as passing:
        studies = arguments.studies or Path(passing)
        studies.mkdir(parents=True, exist_ok=True)
        print(f"| {' | '.join(COLUMNS)} |")
        print(f"| {' | '.join('---:' for _ in COLUMNS)} |", flush=True)
        rows = []
        for seed in arguments.seeds:
            spent = run(arguments.space, seed, studies, arguments.workers)
            found = facts(open_study(f"{load_space(arguments.space).name}-seed{seed}", studies))
            rows.append(found)
            print(f"| {' | '.join(cells(seed, spent, found))} |", flush=True)
        wide = sum(row["members"] >= MEMBERS and row["factor"] >= FACTOR for row in rows)
        paid = sum(row["dynamic"] > 0 and row["static_test"] <= 100 for row in rows)
        print(f"\n{wide} of {len(rows)} fronts have {MEMBERS} members or more over a factor of {FACTOR:g}.")
        print(
            f"In {paid} of {len(rows)} dynamic members stand on a front that static ones do not beat on test."
        )


if __name__ == "__main__":
    main()
