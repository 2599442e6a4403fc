"""Outside of `dynnas.tasks` nothing tells a class from outputs, or knows the loss of classes."""

import re
from pathlib import Path

import dynnas

PACKAGE = Path(dynnas.__file__).parent
MEANING = re.compile(r"cross_entropy|\bsoftmax\(|\bargmax\(")
# What is no output of a task, by the start of the path and what stands there.
OTHERS = {
    "tasks/": "here",
    "nn/kernels/": "attention over experts",
    "nn/gates/": "choices of gates",
    "nn/dynamic_conv/": "attention over experts",
    "nn/exits/early_exits.py": "the alternative of most votes",
    "nn/exits/patient_exits.py": "PABEE counts exits that name the same class",
    "runtimes/onnx/int8/branches.py": "the alternative of most votes",
    "nn/carafe.py": "a kernel for each place",
    "nn/trees/soft_tree.py": "a path of a tree",
    "nn/networks/glance.py": "where to look",
    "training/algorithms/gates/guidance.py": "what gates are taught to choose",
    "training/algorithms/exits/early_exits.py": "what an exit is taught of its own quality",
    "metrics/budgeted.py": "the first exit that is reached",
    "pareto/": "the best of a list",
    "report/tables/": "the most work",
    "report/latency.py": "the most work",
    "export/mil.py": "runs any program as it is written",
    "export/standalone.py": "runs without dynnas, so that it says itself what outputs mean",
    "study/study.py": "an example in a docstring",
    "training/algorithms/exits/exit_policy.py": "a distribution over exits",
    "nn/sequences/jump_rnn.py": "how far to jump",
    "training/algorithms/sampling/": "the network of the least or greatest loss",
}


def test_nothing_else_knows_classes() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix(): line.strip()
        for path in PACKAGE.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if MEANING.search(line)
    }
    assert {path for path in found if not path.startswith(tuple(OTHERS))} == set()
