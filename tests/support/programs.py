"""Python programs in processes of their own that find torch and dynnas imported already."""

import os
import sys
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType

import torch

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(["optuna", "scipy.optimize", "torch._dynamo", "dynnas.workflows.search"])


def run_program(source: str, folder: Path, timeout: float = 200) -> str:
    """Run a program in `folder` to its end, on one thread, and return what it printed.

    Raises:
        AssertionError: it failed, or took longer than `timeout` seconds.
    """
    said, printed = folder / "standard error", folder / "standard output"
    process = CONTEXT.Process(target=_run, args=(source, folder, printed, said))
    process.start()
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        process.join()
    assert process.exitcode == 0, f"status {process.exitcode}: {said.read_text(encoding='utf-8')}"
    return printed.read_text(encoding="utf-8")


def _run(source: str, folder: Path, printed: Path, said: Path) -> None:
    os.chdir(folder)
    for stream, path in ((sys.stdout, printed), (sys.stderr, said)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
    torch.set_num_threads(1)
    program = sys.modules["__main__"] = ModuleType("__main__")
    exec(compile(source, "program", "exec"), vars(program))
