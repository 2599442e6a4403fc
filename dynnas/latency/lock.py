"""One meter at a time on a device, across processes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from dynnas.files import locked

TRY_AGAIN_SECONDS = 0.5


def device_lock(
    device: str, folder: Path | None = None, waiting: Callable[[], None] | None = None
) -> AbstractContextManager[None]:
    """Hold `device` alone: waits while another meter, in this or any other process, is timing on it.

    Args:
        device: a device's name, as in `TargetSettings.device`.
        folder: where the lock file lies; all meters of a machine must agree, so the temporary folder by
            default.
        waiting: called again and again as long as another holds it.
    """
    path = (folder or Path(tempfile.gettempdir())) / f"dynnas-{device}.lock"
    return locked(path, waiting=waiting, poll_seconds=TRY_AGAIN_SECONDS)
