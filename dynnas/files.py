"""The files of this machine: the user's caches and settings, atomic writes, and locks."""

from __future__ import annotations

import csv
import os
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def cache_folder() -> Path:
    """Return $DYNNAS_CACHE, or `dynnas` in the user's cache folder.

    Its content can be deleted at any time.
    """
    if folder := os.environ.get("DYNNAS_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dynnas"


def data_folders() -> list[Path]:
    """Return the folder that $DYNNAS_DATA names, if it is set: data sets are looked up there by name."""
    folder = os.environ.get("DYNNAS_DATA")
    return [Path(folder).expanduser()] if folder else []


def config_folder() -> Path:
    """Return `dynnas` in the folder of the user's settings."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "dynnas"


def separator_of(path: Path, header: str) -> str:
    """Return what separates the columns of a table of texts, as its first line tells.

    That is the first of comma, semicolon and tab by which there are several columns; of a .tsv a tab.
    """
    if path.suffix.lower() == ".tsv":
        return "\t"
    return next((each for each in ",;\t" if len(next(csv.reader([header], delimiter=each), [])) > 1), ",")


@contextmanager
def replacing(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """Open a new binary file that takes the place of `path` when the context ends without an error.

    A crash at any moment leaves the old file or the new one, never half of one. Missing folders are made.

    Args:
        path: the file to replace or make.
        sync: whether to wait until the disk has the content; without it a power cut may lose the file.

    Raises:
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_native_id()}.tmp")
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write `content` to `path`, all or nothing; text is encoded as UTF-8.

    Raises:
        OSError: the folder cannot be written.
    """
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def locked(
    path: Path, *, waiting: Callable[[], None] | None = None, poll_seconds: float = 0.5
) -> Iterator[None]:
    """Hold the lock file `path` alone, among all processes and threads; wait while another holds it.

    The system releases the lock when its holder dies, however it dies. The file stays.

    Args:
        path: the lock file; it is made, writable for every user, and its contents do not matter.
        waiting: called again and again while another holds the lock; what it raises ends the waiting.
        poll_seconds: time between two calls of `waiting`.
    """
    from filelock import FileLock, Timeout  # a device that only times has none

    lock = FileLock(path, mode=0o666)
    while True:
        try:
            lock.acquire(timeout=poll_seconds)
            break
        except Timeout:
            if waiting is not None:
                waiting()
    try:
        yield
    finally:
        lock.release()


class HeldError(Exception):
    """Raised when another process or thread holds a lock.

    Attributes:
        owner: its process id as text, or "unknown".
    """

    def __init__(self, path: Path, owner: str) -> None:
        super().__init__(f"{path} is held by process {owner}")
        self.owner = owner


@contextmanager
def locked_or_refused(path: Path) -> Iterator[None]:
    """Hold the lock file `path` alone, or refuse at once; the file holds the owner's process id.

    Raises:
        HeldError: another process or thread holds it.
    """

    def sign(descriptor: int) -> None:
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, str(os.getpid()).encode())

    from filelock import FileLock, Timeout

    lock = FileLock(path, on_acquired=sign)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        try:
            owner = path.read_text().strip()
        except OSError:  # some systems do not let others read a locked file
            owner = ""
        raise HeldError(path, owner or "unknown") from error
    try:
        yield
    finally:
        lock.release()


def processor() -> str:
    """Return the name of the processor model, as the system reports it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            field, _, value = line.partition(":")
            if field.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
