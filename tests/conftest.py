"""Shared by every test."""

import importlib
import importlib.util
import os
import signal
import warnings
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import torch

# On one thread, so that nothing depends on the machine's cores.
torch.set_num_threads(1)

# A process started in the background may inherit that Ctrl-C is ignored; those that tests interrupt must not.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Programs that tests start find `support` as tests do.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
)

pytest_plugins = ["support.example_spaces", "support.small_study"]


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are processors: many tests wait for a while, for a process or a timeout."""
    return len(os.sched_getaffinity(0)) + 1


def leave_to_the_slow_run(items: list[pytest.Item]) -> None:
    """Mark as slow all but `n` cases of each test that is `sampled(n)`; those kept are spread evenly."""
    sampled = defaultdict(list)
    for item in items:
        mark = item.get_closest_marker("sampled")
        skipped = any(
            condition is True for skipif in item.iter_markers("skipif") for condition in skipif.args
        )
        if mark and not skipped and not item.get_closest_marker("slow"):
            sampled[item.path, item.nodeid.split("[")[0], *mark.args].append(item)
    for (*_, kept), cases in sampled.items():
        places = {round(place * (len(cases) - 1) / max(1, kept - 1)) for place in range(kept)}
        for place, item in enumerate(cases):
            if place not in places:
                item.add_marker(pytest.mark.slow)


@pytest.hookimpl(tryfirst=True)  # before cases are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave some to the slow run, and begin with what takes longest, which else ends alone.

    That is the conformance of operators, then files of few tests: those start programs and train networks.
    """
    leave_to_the_slow_run(items)
    counts = Counter(item.path for item in items)
    items.sort(
        key=lambda item: (item.path.name != "test_conformance.py", counts[item.path], item.path.as_posix())
    )


@pytest.fixture(scope="session")
def timm():
    """timm, whose modules are the second witness for ours; without it, tests that ask for it are skipped."""
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed: pip install --no-deps timm torchvision huggingface_hub")
    with torch.library._scoped_library("torchvision", "FRAGMENT") as operators:
        yield _import_timm(operators)


def _import_timm(operators):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            importlib.import_module("torchvision")
        except RuntimeError:
            # Built for another torch, it has no operators, and imports only where they are at least declared.
            for name in ("nms", "qnms"):
                operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return importlib.import_module("timm")
