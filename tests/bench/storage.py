"""Milliseconds that a trial takes beside its evaluation: proposal, bookkeeping and database.

    python tests/bench/storage.py --trees . ../before --rounds 3
    python tests/bench/storage.py --url postgresql+psycopg://user@host/database

An evaluator that costs nothing searches a space in an SQLite file, each time in a new process, the trees of
code in turns: on a shared machine only runs beside each other compare. Printed are the medians over the
rounds, and their range. The second tree is for the code of another commit (`git worktree add ../before`).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

RUN = """
import sys, time
import dynnas
file, url, sampler, trials = sys.argv[1:]
space = dynnas.load_space(file)

class Free:
    def evaluate(self, architecture):
        score = sum(map(ord, architecture.key))
        return {"accuracy": score % 97 / 97, "latency_ms": 1 + score % 89, "p95_ms": 2.0, "macs": 4.0}

def search(count):
    start = time.perf_counter()
    dynnas.search(
        space, Free(), sampler=sampler, trials=count, storage=url, name="bench",
        objectives=("accuracy", "latency_ms"),
    )
    return time.perf_counter() - start

search(5)  # imports and tables
print(search(5 + int(trials)) / int(trials) * 1e3)
"""


def one(tree: Path, space: Path, sampler: str, trials: int, url: str | None) -> float:
    """Milliseconds a trial, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        where = url or f"sqlite:///{folder}/bench.db"
        found = subprocess.run(
            [sys.executable, "-P", "-c", RUN, str(space.resolve()), where, sampler, str(trials)],
            env={**os.environ, "PYTHONPATH": str(tree.resolve())},
            capture_output=True,
            text=True,
            check=True,
        )
    return float(found.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trees", type=Path, nargs="+", default=[Path(__file__).parents[2]])
    parser.add_argument("--spaces", type=Path, nargs="+", default=[Path("spaces/mobile.yaml")])
    parser.add_argument("--samplers", nargs="+", default=["random"])
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--url", help="an empty database in the place of an SQLite file; one round, one tree")
    arguments = parser.parse_args()
    for space in arguments.spaces:
        for sampler in arguments.samplers:
            found: dict[Path, list[float]] = {tree: [] for tree in arguments.trees}
            for _ in range(arguments.rounds):
                for tree, times in found.items():
                    times.append(one(tree, space, sampler, arguments.trials, arguments.url))
            for tree, times in found.items():
                print(
                    f"{space.stem:12} {sampler:8} {tree}: {statistics.median(times):6.1f} ms a trial "
                    f"({min(times):.1f} to {max(times):.1f})"
                )


if __name__ == "__main__":
    main()
