"""One meter at a time, whichever process dies."""

import subprocess
import sys
import threading

from dynnas.latency.lock import device_lock

HOLD = """
import sys, time
from pathlib import Path
from dynnas.latency.lock import device_lock
with device_lock("cpu", Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def acquire(folder, acquired, device="cpu"):
    with device_lock(device, folder):
        acquired.set()


def test_a_killed_holder_lets_go(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    acquired = threading.Event()
    waiting = threading.Thread(target=acquire, args=(tmp_path, acquired))
    try:
        assert holder.stdout.readline() == "held\n"
        waiting.start()
        assert not acquired.wait(0.3)
    finally:
        holder.kill()
        holder.communicate()
    assert acquired.wait(10)
    waiting.join()


def test_another_device_is_free(tmp_path):
    acquired = threading.Event()
    with device_lock("cpu", tmp_path):
        acquire(tmp_path, acquired, device="cuda")
    assert acquired.is_set()


def test_two_meters_of_one_process_take_turns(tmp_path):
    acquired = threading.Event()
    waiting = threading.Thread(target=acquire, args=(tmp_path, acquired))
    with device_lock("cpu", tmp_path):
        waiting.start()
        assert not acquired.wait(0.2)
    assert acquired.wait(10)
    waiting.join()
