"""One meter at a time on a device, across processes."""

from __future__ import annotations

import fcntl
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

TRY_AGAIN_SECONDS = 0.5


@contextmanager
def device_lock(
    device: str, folder: Path | None = None, waiting: Callable[[], None] | None = None
) -> Iterator[None]:
    """Hold `device` alone: waits while another meter, in this or any other process, is timing on it.

    The lock belongs to an open file, so the kernel releases it when its holder dies, however it dies.

    Args:
        device: a device's name, as in `TargetSettings.device`. folder: where the lock file lies; all
        meters of a machine must agree, so the temporary folder by default. waiting: called again and again
        as long as another holds it.
    """
    path = (folder or Path(tempfile.gettempdir())) / f"dynnas-{device}.lock"
    # Only reading: the file may belong to another user, whose meter excludes ours all the same.
    if not path.exists():
        path.touch()
    with path.open() as file:
        while waiting is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waiting()
                time.sleep(TRY_AGAIN_SECONDS)
        else:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
