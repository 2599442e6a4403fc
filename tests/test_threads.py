"""Threads: passive waiting, usable cores, and the number that is fastest by a clock of the test's own."""

import os
import subprocess
import sys
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from dynnas.threads import (
    SLOW_RATIO,
    WINDOW,
    ForwardThreads,
    StepThreads,
    candidate_counts,
    fastest_count,
    most_threads,
    usable_cores,
    use_threads,
    wait_passively,
)


class Machine:
    """A clock, and work that takes `seconds` of it with each number of threads."""

    def __init__(self, **seconds):
        self.seconds = {int(name.lstrip("t")): value for name, value in seconds.items()}
        self.now, self.count, self.ran = 0.0, 1, []

    def clock(self):
        return self.now

    @contextmanager
    def use(self, count):
        self.count = count
        yield

    def run(self):
        self.ran.append(self.count)
        taken = self.seconds[self.count]
        self.now += taken(len(self.ran)) if callable(taken) else taken

    def fastest(self, *counts):
        return fastest_count(self.run, counts, clock=self.clock, use=self.use)


# ------------------------------------------------------------------------------------------------ waiting


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"OMP_WAIT_POLICY": "PASSIVE"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
        ({"GOMP_SPINCOUNT": "1000"}, {"GOMP_SPINCOUNT": "1000"}),
    ],
)
def test_waiting_is_passive_unless_the_user_says_otherwise(before, after):
    environment = dict(before)
    wait_passively(environment)
    assert environment == after


def test_the_command_line_waits_passively_before_torch_is_loaded():
    code = (
        "import os, sys\n"
        "import dynnas.cli.app as app\n"
        "app.app = lambda *a, **k: print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'])\n"
        "app.main(['schema'])"
    )
    env = {
        name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    }
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "PASSIVE"]


# -------------------------------------------------------------------------------------------------- cores


def _groups(tmp_path: Path, membership: str, files: dict[str, str]) -> dict[str, Path]:
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "self").write_text(membership)
    return {"cgroup": tmp_path / "self", "root": tmp_path / "cgroup"}


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "100000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "20000 100000\n"}, 1),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "200000 100000\n"}, 2),
        ("4:cpu,cpuacct:/a\n", {"cpu,cpuacct/a/cpu.cfs_quota_us": "400000\n",
                                 "cpu,cpuacct/a/cpu.cfs_period_us": "200000\n"}, 2),
        ("1:cpu:/gone\n", {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "10000\n"}, 5),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ("3:cpuset:/a\n", {"cpuset/a/cpu.cfs_quota_us": "1\n", "cpuset/a/cpu.cfs_period_us": "1\n"}, 8),
        ("", {}, 8),
    ],
)  # fmt: skip
def test_quotas_of_control_groups_bound_the_cores(tmp_path, membership, files, cores):
    assert usable_cores({}, affinity=8, **_groups(tmp_path, membership, files)) == cores


@pytest.mark.parametrize(
    ("asked", "cores"), [("1", 1), ("3", 3), ("64", 8), ("4,2", 4), ("", 8), ("many", 8), ("0", 8)]
)
def test_omp_num_threads_bounds_the_cores(tmp_path, asked, cores):
    groups = _groups(tmp_path, "", {})
    assert usable_cores({"OMP_NUM_THREADS": asked}, affinity=8, **groups) == cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_the_affinity_of_the_process_bounds_the_cores():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); import dynnas.threads as t; print(t.usable_cores({}))"  # noqa: E501
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "1"


def test_what_was_set_in_torch_bounds_the_threads():
    assert torch.get_num_threads() == 1  # by conftest
    assert most_threads() == 1


@pytest.mark.parametrize(
    ("most", "counts"), [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (8, (1, 2, 4, 8)), (12, (1, 2, 4, 8, 12))]
)
def test_candidates_double_up_to_the_bound(most, counts):
    assert candidate_counts(most) == counts


def test_the_number_of_before_is_set_again_after_an_error():
    def fail():
        with use_threads(2):
            assert torch.get_num_threads() == 2
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert torch.get_num_threads() == 1


# ------------------------------------------------------------------------------------------------- choice


def test_one_candidate_is_not_timed():
    machine = Machine(t1=1.0)
    assert machine.fastest(1) == 1
    assert machine.ran == []


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({"t1": 0.035, "t2": 0.065}, 1),
        ({"t1": 1.0, "t2": 0.55}, 2),
        ({"t1": 1.0, "t2": 0.95}, 1),  # hardly faster
        ({"t1": 1.0, "t2": 0.6, "t4": 0.35, "t8": 0.34}, 4),
        ({"t1": 4.0, "t2": 2.0, "t4": 1.0, "t8": 0.5}, 8),
    ],
)
def test_the_fastest_number_wins_and_a_tie_takes_fewer(seconds, best):
    machine = Machine(**seconds)
    assert machine.fastest(*machine.seconds) == best


def test_the_smallest_time_counts_and_the_first_round_does_not():
    noisy = iter([0.1, 2.0, 9.0, 0.5])
    machine = Machine(t1=1.0, t2=lambda _: next(noisy))
    assert machine.fastest(1, 2) == 2


def test_candidates_take_turns():
    machine = Machine(t1=1.0, t2=1.0)
    machine.fastest(1, 2)
    assert machine.ran == [2, 1, 1, 2, 2, 1, 1, 2]


def test_a_hopeless_candidate_is_tried_once_after_warming_up():
    machine = Machine(t1=0.035, t2=4.1)
    assert machine.fastest(1, 2) == 1
    assert machine.ran.count(2) == 2


# -------------------------------------------------------------------------------------------------- steps


def _steps(threads, machine, steps):
    for _ in range(steps):
        with threads.step():
            machine.run()


def test_steps_are_measured_again_where_they_get_slow_and_then_only():
    machine = Machine(t1=0.9, t2=0.5)
    measured = []

    def measure():
        measured.append(machine.now)
        machine.now += 1.0
        return 1

    threads = StepThreads(measure, 2, clock=machine.clock, use=machine.use)
    _steps(threads, machine, 3 * WINDOW)
    machine.seconds[2] = SLOW_RATIO * 0.5 - 0.01
    _steps(threads, machine, 2 * WINDOW)
    assert (threads.count, measured) == (2, [])
    machine.seconds[2] = 4.0
    _steps(threads, machine, WINDOW)
    assert measured == []  # the last of the window has just ended
    _steps(threads, machine, 3 * WINDOW)
    assert (threads.count, len(measured)) == (1, 1)


def test_one_slow_step_is_noise():
    slow = {5, 11, 12, 13}
    machine = Machine(t1=lambda number: 50.0 if number in slow else 1.0)
    threads = StepThreads(lambda: pytest.fail("measured"), 1, clock=machine.clock, use=machine.use)
    _steps(threads, machine, 40)


def test_measuring_again_takes_a_small_part_of_the_time():
    """A machine that is slower from window to window, and a trial that takes as long as 100 steps."""
    machine = Machine(t1=lambda number: 1.0 * 2 ** (number // (2 * WINDOW)))
    trials = []

    def measure():
        trials.append(machine.now)
        machine.now += 100.0
        return 1

    _steps(StepThreads(measure, 1, clock=machine.clock, use=machine.use), machine, 10 * WINDOW)
    assert len(trials) >= 1
    assert all(later - earlier >= 100 / 0.03 for earlier, later in pairwise(trials))


def test_a_fixed_number_is_never_measured():
    machine = Machine(t2=lambda number: float(number))
    threads = StepThreads(
        lambda: pytest.fail("measured"), 2, fixed=True, clock=machine.clock, use=machine.use
    )
    _steps(threads, machine, 5 * WINDOW)
    assert set(machine.ran) == {2}


# ------------------------------------------------------------------------------------------------ forward


def test_forward_threads_are_measured_at_first_and_when_due():
    machine = Machine(t1=1.0, t2=0.5)
    forward = ForwardThreads(most=lambda: 2, clock=machine.clock, use=machine.use)
    for _ in range(3):
        with forward.running(machine.run):
            assert machine.count == 2
    first = len(machine.ran)
    assert first == 8
    machine.seconds = {1: 1.0, 2: 4.0}
    machine.now += 1e4
    with forward.running(machine.run):
        assert machine.count == 1
    assert len(machine.ran) > first


def test_forward_threads_obey_a_bound_that_falls():
    machine, bound = Machine(t1=1.0, t2=0.5), [2]
    forward = ForwardThreads(most=lambda: bound[0], clock=machine.clock, use=machine.use)
    with forward.running(machine.run):
        assert machine.count == 2
    bound[0] = 1
    with forward.running(machine.run):
        assert machine.count == 1


BLAS = """
import numpy
from threadpoolctl import threadpool_info

from dynnas.threads import one_blas_thread

def threads():
    return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]

before = threads()
with one_blas_thread():
    print(set(threads()) == {1})
print(threads() == before, max(before))
import scipy.linalg
before = threads()
with one_blas_thread():
    print(set(threads()) == {1})
print(threads() == before)
"""


def test_linear_algebra_has_one_thread_inside_also_what_is_loaded_later():
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    found = subprocess.run([sys.executable, "-c", BLAS], env=environment, capture_output=True, text=True)
    assert found.stdout.split() == ["True", "True", "2", "True", "True"], found.stderr
