"""Files appear whole or not at all; locks end with their holders, on systems without fcntl as well."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dynnas.files import HeldError, atomic_write, locked, locked_or_refused, replacing

HOLD = """
import sys, time
from pathlib import Path
from dynnas.files import locked_or_refused
with locked_or_refused(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""

WITHOUT_FCNTL = """
import sys
import torch, sqlalchemy, optuna  # what they do without fcntl is not ours to test
sys.modules["fcntl"] = None
for name in [name for name in sys.modules if name.startswith("filelock")]:
    del sys.modules[name]
import dynnas.search.api
import dynnas.latency.meter
import dynnas.latency.tuning.tuning
import dynnas.workflows.run
try:
    import fcntl
except ImportError:
    print("hidden")
"""


def test_a_device_needs_no_locks_for_its_cache_folder():
    """TensorRT's engines are kept there, on devices with numpy and onnxruntime alone."""
    hidden = 'import sys; sys.modules["filelock"] = None; '
    program = f"{hidden}from dynnas.files import cache_folder; print(cache_folder())"
    env = {**os.environ, "DYNNAS_CACHE": "kept"}
    ran = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    assert ran.stdout == "kept\n"


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "settings.json"
    atomic_write(path, "größer\n")
    assert path.read_bytes() == "größer\n".encode()
    atomic_write(path, b"\0\1")
    assert path.read_bytes() == b"\0\1"
    assert os.listdir(path.parent) == ["settings.json"]


def test_an_error_while_writing_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "front.json"
    atomic_write(path, "old")

    def fail() -> None:
        with replacing(path) as file:
            file.write(b"half of the n")
            raise RuntimeError("the process cannot go on")

    with pytest.raises(RuntimeError, match="cannot go on"):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["front.json"]


def test_a_new_file_gets_the_permissions_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    atomic_write(tmp_path / "atomic", "")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_held_lock_names_its_owner_and_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(HeldError, match="lock is held by process") as refused, locked_or_refused(path):
            pass
        assert refused.value.owner == str(holder.pid)
    finally:
        holder.kill()
        holder.communicate()
    with locked_or_refused(path):
        assert path.read_text() == str(os.getpid())


def test_waiting_for_a_lock_can_be_given_up(tmp_path: Path) -> None:
    path, told = tmp_path / "lock", threading.Event()

    def give_up() -> None:
        told.set()
        raise InterruptedError("enough")

    def wait() -> None:
        with (
            pytest.raises(InterruptedError, match="enough"),
            locked(path, waiting=give_up, poll_seconds=0.05),
        ):
            pass

    waiting = threading.Thread(target=wait)
    with locked(path):
        waiting.start()
        assert told.wait(10)
        waiting.join()


def test_search_and_latency_are_imported_without_fcntl() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_FCNTL], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "hidden\n"
