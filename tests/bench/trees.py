"""What one tree of code costs beside another: whole commands, the trees in turns.

    git worktree add ../before COMMIT
    python tests/bench/trees.py ../before . --rounds 5 --only help import space elastic scoring packed trial

Each command runs in a process of its own, with one tree's code and that tree's own bench, and the trees
take turns, since on a shared machine only runs beside each other compare. Both read the same space file.
Printed are the median of each tree, and the median of the ratios of the rounds (the second tree's to the
first one's) with their range. `quick` is a whole search: processor seconds of the command and its children;
it takes minutes.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

SPACE = Path(tempfile.mkdtemp()) / "space.yaml"
MAIN = "import sys; from dynnas.cli import main; sys.exit(main())"


def command(tree: Path, *arguments: str) -> tuple[str, float]:
    """What a Python command prints with the tree's code, and the processor seconds that it takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-P", *(argument.format(tree=tree, space=SPACE) for argument in arguments)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
            capture_output=True,
            text=True,
            check=True,
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def seconds(*arguments: str) -> Callable[[Path], float]:
    return lambda tree: command(tree, *arguments)[1]


def printed(pattern: str, *arguments: str) -> Callable[[Path], float]:
    def found(tree: Path) -> float:
        match = re.search(pattern, command(tree, *arguments)[0])
        if match is None:
            raise SystemExit(f"{tree}: {arguments[0]} prints no {pattern!r}")
        return float(match.group(1))

    return found


def trial(tree: Path) -> float:
    here = str(Path(__file__).with_name("storage.py"))
    return printed(r"(\d+\.\d+) ms", here, "--trees", "{tree}", "--spaces", "{space}", "--rounds", "1")(tree)


MEASURES: dict[str, tuple[str, Callable[[Path], float]]] = {
    "help": ("`dynnas --help`, processor s", seconds("-c", MAIN, "--help")),
    "import": ("`import dynnas`, processor s", seconds("-c", "import dynnas")),
    "space": (
        "`dynnas space SPACE`, processor s",
        seconds("-c", MAIN, "space", "{space}"),
    ),
    "elastic": (
        "step of the supernet to that of the network alone",
        printed(
            r"median ratio over .*: (\d+\.\d+)",
            "{tree}/tests/bench/elastic.py", "{space}", "--networks", "8", "--threads", "1",
        ),
    ),
    "scoring": (
        "candidates scored in a second",
        printed(
            r"plain loop +(\d+\.\d+)",
            "{tree}/tests/bench/throughput.py", "{space}", "--candidates", "30", "--workers",
        ),
    ),
    "packed": (
        "packed CondConv to a static convolution",
        printed(
            r"14x14 and larger: .* packed (\d+\.\d+)", "{tree}/tests/bench/packing.py", "--rounds", "15"
        ),
    ),
    "trial": ("a trial beside its evaluation, ms", trial),
    "quick": (
        "`dynnas search SPACE`, processor s",
        seconds("-c", MAIN, "search", "{space}"),
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("trees", nargs=2, type=Path, help="before, after")
    parser.add_argument("--space", type=Path, default=Path("spaces/mobile.yaml"), help="that both can read")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=list(MEASURES))
    arguments = parser.parse_args()
    SPACE.write_bytes(arguments.space.read_bytes())
    trees = [tree.resolve() for tree in arguments.trees]
    print("| | before | after | ratio (range) |\n| --- | --- | --- | --- |")
    for name in arguments.only:
        title, measure = MEASURES[name]
        rounds = [[measure(tree) for tree in trees] for _ in range(arguments.rounds)]
        ratios = sorted(after / before for before, after in rounds)
        before, after = (statistics.median(column) for column in zip(*rounds, strict=True))
        middle = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"| {title} | {before:.3g} | {after:.3g} | {middle} |", flush=True)


if __name__ == "__main__":
    main()
