"""One meter at a time on a device, across processes."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def device_lock(device: str, folder: Path | None = None) -> Iterator[None]:
    """Hold `device` alone: waits while another meter, in this or any other process, is timing on it.

    The lock belongs to an open file, so the kernel releases it when its holder dies, however it dies.

    Args:
        device: a device's name, as in `TargetSettings.device`. folder: where the lock file lies; all
        meters of a machine must agree, so the temporary folder by default.
    """
    path = (folder or Path(tempfile.gettempdir())) / f"dynnas-{device}.lock"
    # Only reading: the file may belong to another user, whose meter excludes ours all the same.
    if not path.exists():
        path.touch()
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
