"""`dynnas serve`: what it prints, and that it answers who knows its token."""

import re
import subprocess
import sys
from contextlib import closing

import pytest

from dynnas.errors import TargetError
from dynnas.latency.remote.client import Device


def test_it_makes_a_token_says_it_once_and_serves(tmp_path):
    file = tmp_path / "token"
    command = [sys.executable, "-m", "dynnas", "serve", "--port", "0", "--token-file", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            token = server.stdout.readline()
            assert token == f"new token, kept in {file}: {file.read_text()}"
            found = re.search(
                r"serving cpu with .*onnxruntime.* at (tcp://127\.0\.0\.1:\d+);", server.stdout.readline()
            )
            address = found[1]
            with closing(Device(address, file.read_text().strip().encode())) as device:
                assert "onnxruntime" in device.offers()[0]
            with (
                closing(Device(address, b"not the one that it printed")) as device,
                pytest.raises(TargetError, match="the device has another token"),
            ):
                device.offers()
        finally:
            server.terminate()


def test_an_address_that_is_not_this_machines_is_one_message(dynnas, monkeypatch):
    monkeypatch.setenv("DYNNAS_TOKEN", "long enough for a token")
    ran = dynnas("serve", "--host", "203.0.113.7", "--port", "0")
    assert ran.status == 2
    assert ran.err.startswith("dynnas: Cannot assign requested address")
    assert ran.err.count("\n") == 1


def test_a_device_that_is_none_is_refused(dynnas):
    ran = dynnas("search", "spaces/mobile.yaml", "--device", "tcp:/pi:7411")
    assert ran.status == 2
    assert "--device: found tcp:/pi:7411; allowed: cpu, cuda, tcp://host:port" in ran.err
