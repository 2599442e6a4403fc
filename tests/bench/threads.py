"""What the choice of threads is worth: one training step, idle, beside a busy process, and under a quota.

    python tests/bench/threads.py [--space spaces/mobile.yaml] [--steps 12]

Each line is a situation; each column is a process of its own, and its figure is the mean of its steps in
seconds, after those that warm up. `plain` is torch as it comes; `passive` is the same with
OMP_WAIT_POLICY=PASSIVE; `one thread` is OMP_NUM_THREADS=1; `dynnas` is what the command does: passive
waiting, and the number of threads that is measured. The last column is `plain` as a multiple of `dynnas`.

The quota of one core is one of control groups where this user may make one (as root, where the hierarchy of
version 1 or 2 is mounted writable); else the affinity of one core stands in for it, and the line says so.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[2]
WAYS = {
    "plain": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
    "dynnas": {"OMP_WAIT_POLICY": "PASSIVE"},
}
OWN = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
MAX_SECONDS = 60.0


def step_seconds(space: str, steps: int, way: str) -> dict[str, float]:
    """Train in this process; the mean seconds of a step and the number of threads."""
    import torch

    from dynnas.language.parser import load_space
    from dynnas.settings.settings import TrainSettings
    from dynnas.supernet.staged import staged_supernet
    from dynnas.threads import StepThreads
    from dynnas.training.algorithm import Pass
    from dynnas.training.algorithms.sampling.sandwich import sandwich
    from dynnas.training.execution import Execution, choose_threads, run_trial
    from dynnas.training.models import model_of

    settings = TrainSettings(batch=64)
    loaded = load_space(ROOT / space)
    resolution = max(loaded.network.resolutions) if hasattr(loaded.network, "resolutions") else 28
    supernet = staged_supernet(loaded, channels=1, classes=10).train()
    images = torch.randn(settings.batch, 1, resolution, resolution)
    execution = Execution("channels_last", "float32")

    def step(number: int) -> None:
        for architecture in sandwich(loaded, 2, 0, number):
            outputs = supernet(execution.prepare(images), architecture)
            torch.stack([logits.square().mean() for logits in outputs]).sum().backward()
        supernet.zero_grad(set_to_none=True)

    device = torch.device("cpu")

    def measure() -> int:
        networks = [Pass(architecture) for architecture in sandwich(loaded, 2, 0, 0)]
        trial = partial(run_trial, model_of(supernet), networks, images, device)
        return choose_threads(trial, execution, device, True)

    count = measure() if way == "dynnas" else torch.get_num_threads()
    threads = StepThreads(measure, count, fixed=way != "dynnas")
    begun, timed = time.monotonic(), []
    for number in range(2 + steps):
        start = time.perf_counter()
        with threads.step():
            step(number)
        if number >= 2:
            timed.append(time.perf_counter() - start)
        if timed and time.monotonic() - begun > MAX_SECONDS:
            break
    return {"seconds": sum(timed) / len(timed), "threads": threads.count}


def run(way: str, options: argparse.Namespace, before: list[str], prepare=None) -> dict[str, float]:
    """The same in a process of its own."""
    env = {name: value for name, value in os.environ.items() if name not in OWN}
    command = [*before, sys.executable, __file__, "--way", way, "--space", options.space]
    ran = subprocess.run(
        [*command, "--steps", str(options.steps)],
        env={**env, **WAYS[way], "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        preexec_fn=prepare,
    )
    return json.loads(ran.stdout.splitlines()[-1])


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Other processes that compute all the time."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


@contextmanager
def quota_of_one_core() -> Iterator[Path | None]:
    """The file that takes processes into a control group of one core; None where none can be made."""
    name = f"dynnas-bench-{os.getpid()}"
    for mount, limits in (
        (Path("/sys/fs/cgroup"), {"cpu.max": "100000 100000"}),
        (Path("/sys/fs/cgroup/cpu"), {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "100000"}),
    ):
        group = mount / name
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if all((group / limit).exists() for limit in limits):
                for limit, value in limits.items():
                    (group / limit).write_text(value)
                yield group / "cgroup.procs"
                return
        except OSError:
            pass
        finally:
            group.rmdir()
    yield None


def line(situation: str, found: dict[str, dict[str, float]]) -> None:
    cells = [f"{found[way]['seconds']:8.3f} ({found[way]['threads']:.0f})" for way in WAYS]
    ratio = found["plain"]["seconds"] / found["dynnas"]["seconds"]
    print(f"{situation:34}", *cells, f"{ratio:8.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--space", default="spaces/mobile.yaml")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--way", choices=WAYS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(step_seconds(options.space, options.steps, options.way)))
        return
    print(f"{'seconds a step (threads)':34}", *(f"{way:>12}" for way in WAYS), "plain/dynnas")
    line("idle", {way: run(way, options, []) for way in WAYS})
    with busy(1):
        line("one busy process", {way: run(way, options, []) for way in WAYS})
    with quota_of_one_core() as procs:
        if procs is None:
            core = str(min(os.sched_getaffinity(0)))
            line("affinity of one core", {way: run(way, options, ["taskset", "-c", core]) for way in WAYS})
        else:
            join = lambda: procs.write_text(str(os.getpid()))  # noqa: E731
            line("quota of one core", {way: run(way, options, [], join) for way in WAYS})


if __name__ == "__main__":
    main()
