"""A search on a cluster that somebody else started, and protects by a token."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from support.tables import write_table

pytest.importorskip("ray", reason="the extra ray is not installed")
pytestmark = pytest.mark.timeout(300)  # processes of Ray take their time to start


@pytest.fixture
def home() -> Iterator[Mapping[str, str]]:
    """The environment of a user whose Ray has a token, as any earlier `ray.init()` leaves one."""
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # sockets' paths are short
    (folder / ".ray").mkdir()
    (folder / ".ray" / "auth_token").write_text("0123456789abcdef" * 4)
    unset = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS")
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    yield {**kept, "HOME": str(folder), "RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def address(home: Mapping[str, str]) -> Iterator[str]:
    """A cluster begun with `ray start --head`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}"]
    command += ["--num-cpus=2", f"--temp-dir={home['HOME']}/t", "--include-dashboard=false"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=home, start_new_session=True, **quiet) as process:
        end = time.monotonic() + 120
        while not listens(port):
            assert process.poll() is None, "ray start ended"
            assert time.monotonic() < end, "ray start does not listen"
            time.sleep(0.2)
        yield f"127.0.0.1:{port}"
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.slow
def test_search_on_a_cluster_by_its_address(home: Mapping[str, str], address: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dynnas", "search", str(write_table(tmp_path)), "--trials", "30"]
    command += ["--studies", str(tmp_path), "--quiet", "--ray", address]
    done = subprocess.run(command, env=home, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "grid" / "front.json").exists()
