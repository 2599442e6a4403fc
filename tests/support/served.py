"""A device server in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dynnas.latency.remote.server import DeviceServer, Limits

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-for-tests-0123456789"

# As on a device that has nothing but numpy and ONNX Runtime.
BLOCKER = """
import sys
sys.modules.update(dict.fromkeys({absent!r}))
from dynnas.latency.remote.serve import main
main()
"""
ABSENT = {
    "torch",
    "onnx",
    "yaml",
    "typer",
    "rich",
    "optuna",
    "scipy",
    "sklearn",
    "PIL",
    "ncnn",
    "ai_edge_litert",
    "openvino",
    "sqlalchemy",
}


class Served:
    """The process, and the address that it printed."""

    def __init__(self, port: int = 0, absent: set[str] = ABSENT, **variables: str) -> None:
        command = [sys.executable, "-c", BLOCKER.format(absent=absent), "--port", str(port)]
        env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "DYNNAS_TOKEN": TOKEN,
            **variables,
        }
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        found = re.search(r"serving cpu with (.*) at (tcp://\S+:(\d+));", self.line)
        assert found, self.line
        self.offered, self.address, self.port = found[1].split(", "), found[2], int(found[3])

    def kill(self) -> None:
        """As `kill -9`."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


@contextmanager
def served(**how: object) -> Iterator[Served]:
    """A server in another process for as long as it is needed."""
    server = Served(**how)  # type: ignore[arg-type]
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def listening(
    folder: Path, limits: Limits | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[DeviceServer, list[str]]]:
    """A server in this process, and what it reports."""
    lines: list[str] = []
    server = DeviceServer(TOKEN.encode(), limits=limits, report=lines.append, lock_folder=folder, tls=tls)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server, lines
    finally:
        server.close()
        thread.join(10)
        assert not thread.is_alive()
