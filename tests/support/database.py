"""A PostgreSQL server of the tests' own, which they start, kill and start again."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if Path("/usr/lib/postgresql").exists() else []


def why_not() -> str | None:
    """Why there can be no server here; None if there can."""
    if not PROGRAMS:
        return "PostgreSQL is not installed (apt-get install postgresql)"
    if os.getuid() == 0 and _user() is None:
        return "PostgreSQL does not run as root, and there is no other user"
    return None


def _user() -> str | None:
    """Whom the server runs as, where the tests are root's."""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    return None


class Server:
    """A server in a folder of its own, heard on a socket there."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dynnas-pg-"))
        self._user = _user() if os.getuid() == 0 else None
        if self._user:
            shutil.chown(self.folder, self._user)
        self.url = f"postgresql+psycopg://dynnas@/postgres?host={self.folder}"
        self._process: subprocess.Popen[bytes] | None = None
        self._run("initdb", "-A", "trust", "-U", "dynnas", "-E", "UTF8", "--no-sync", "-D", self._data)

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(PROGRAMS[-1] / program), *arguments],
            check=True, capture_output=True, user=self._user, cwd=self.folder, timeout=120,
        )  # fmt: skip

    def start(self) -> None:
        """Start it, and wait until it answers."""
        end = time.monotonic() + 60
        while True:
            self._process = subprocess.Popen(
                [str(PROGRAMS[-1] / "postgres"), "-D", self._data, "-k", str(self.folder), "-F",
                 "-c", "listen_addresses=", "-c", "shared_buffers=16MB"],
                user=self._user, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            while self._process.poll() is None:
                ready = [str(PROGRAMS[-1] / "pg_isready"), "-q", "-h", str(self.folder), "-U", "dynnas"]
                if subprocess.run(ready, check=False).returncode == 0:
                    return
                assert time.monotonic() < end, "the server does not start"
                time.sleep(0.1)
            # What is left of a server that was killed may hold its memory for a moment.
            assert time.monotonic() < end, "the server does not start"
            time.sleep(0.2)

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Be gone."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
