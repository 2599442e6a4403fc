"""Peak memory: what loading and running a network adds to a fresh process that has only its runtime.

`python -m dynnas.latency.remote.memory` is that process: it reads a document from
standard input and writes the answer to standard output.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from dynnas.errors import DynnasError, TargetError
from dynnas.runtimes.artifact import Artifact
from dynnas.runtimes.compile import load_artifact
from dynnas.runtimes.document import read_document, write_document
from dynnas.runtimes.runtime import get_runtime

RUNS = 3
SECONDS = 600.0


def peak_memory_mib(artifact: Artifact, image: np.ndarray, threads: int = 1) -> float:
    """Return the most MiB of resident memory that loading `artifact` and running it on `image` adds.

    On a graphics card it is still the host's memory.

    Args:
        artifact: of a network. image: (batch, channels, H, W) float32. threads: CPU threads of the runtime.

    Raises:
        TargetError: it cannot be run, or the system does not tell (only Linux does).
    """
    sent = np.frombuffer(artifact.to_bytes(), np.uint8)
    data = write_document({"threads": threads}, {"artifact": sent, "image": image})
    ran = subprocess.run(
        [sys.executable, "-m", "dynnas.latency.remote.memory"],
        input=data,
        capture_output=True,
        timeout=SECONDS,
    )
    try:
        answer = json.loads(ran.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        said = ran.stderr.decode(errors="replace").strip().split("\n")[-1][-1000:]
        answer = {"error": said or f"its process ended with {ran.returncode}"}
    if "error" in answer:
        raise TargetError(f"peak memory: {answer['error']}")
    return float(answer["mib"])


def main() -> None:
    """Answer one question."""
    try:
        print(json.dumps({"mib": _measured(sys.stdin.buffer.read())}))
    except DynnasError as error:
        print(json.dumps({"error": str(error)}))


def _measured(data: bytes) -> float:
    header, arrays = read_document(data)
    artifact, image = Artifact.from_bytes(arrays["artifact"].tobytes()), arrays["image"]
    get_runtime(artifact.runtime).version()  # imports its package, whose own memory is not the network's
    # From here on the peak is counted again from zero, where the system allows it.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    runner = load_artifact(artifact, int(header["threads"]))
    for _ in range(RUNS):
        runner(image)
    return max(0.0, _status("VmHWM") - before)


def _status(field: str) -> float:
    """Return a size of this process in MiB."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError as error:
        raise TargetError("this system does not tell a process's peak memory; Linux does") from error
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    main()
