"""A device over SSH: by a real server where one is installed, and by a stand-in for `ssh` that runs here."""

import contextlib
import getpass
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support.networks import config, finished, images
from support.served import ROOT
from test_remote import search

from dynnas.errors import TargetError
from dynnas.latency.remote.client import Device
from dynnas.latency.remote.ssh import ssh_command
from dynnas.latency.remote.timer import RemoteTimer, resolve_target
from dynnas.latency.rounds import TimingPlan, Workload
from dynnas.latency.runner import build_runner
from dynnas.settings.settings import TargetSettings

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
PLAN = TimingPlan(seconds=0.02)


def install(folder, script):
    """`ssh` in `folder` is a script that gets ssh's arguments."""
    folder.mkdir(exist_ok=True)
    path = folder / "ssh"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


RUN_HERE = 'echo "$@" >> {log}; for last; do :; done; PYTHONPATH={root} exec sh -c "$last"'


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """A stand-in that runs the command on this machine, as sshd would; returns the file of its arguments."""
    log = tmp_path / "log"
    install(tmp_path / "bin", RUN_HERE.format(log=log, root=ROOT))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.delenv("DYNNAS_TOKEN", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))  # no token there either
    return log


def target_at(place):
    device = f"ssh://{place}{sys.executable}"
    return TargetSettings(device=device, runtime="onnxruntime_portable", seconds=0.02)


def timed(target):
    network = finished(config(op="condconv", exits=1))
    return RemoteTimer(target)(
        [Workload(build_runner(network, target), list(images(3)[:, None].numpy()))], (), PLAN
    )


def test_networks_are_timed_there_without_a_token(ssh):
    times = timed(target_at("pi@kitchen"))
    assert times.shape[0] == 1
    assert (times > 0).all()
    assert ssh.read_text().startswith("-T -oBatchMode=yes")
    assert f"-- pi@kitchen {sys.executable} -m dynnas.latency.remote.serve --stdio" in ssh.read_text()


def test_auto_is_what_the_device_offers(ssh):
    target = TargetSettings(device=f"ssh://kitchen{sys.executable}")
    assert resolve_target(target).runtime == "onnxruntime"


def test_what_a_login_prints_is_skipped(ssh, tmp_path):
    install(tmp_path / "bin", "echo Welcome; " + RUN_HERE.format(log=ssh, root=ROOT))
    assert timed(target_at("kitchen")).shape[0] == 1


def test_a_lost_connection_is_made_again(ssh):
    device = Device(f"ssh://kitchen{sys.executable}", b"", backoff=(0.1,))
    before = device.offers()
    os.kill(device._channel._process.pid, signal.SIGKILL)
    assert device.offers() == before
    device.close()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "echo 'Host key verification failed.' >&2; exit 255",
            r"kitchen cannot be reached \(Host key verification",
        ),
        ("exit 0", r"cannot be reached \(the connection was closed\); see that this runs: ssh -T "),
        ("head -c 100000 /dev/zero", "what answers there is no device of this dynnas"),
    ],
)
def test_what_ssh_says_is_passed_on(script, message, ssh, tmp_path):
    install(tmp_path / "bin", script)
    with pytest.raises(TargetError, match=message):
        Device("ssh://kitchen", b"", backoff=()).offers()


def test_without_ssh_the_message_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetError, match="no ssh is installed here; install OpenSSH's client"):
        Device("ssh://kitchen", b"", backoff=()).offers()


@pytest.mark.parametrize(
    ("address", "end"),
    [
        ("ssh://kitchen", ["--", "kitchen", "python3 -m dynnas.latency.remote.serve --stdio"]),
        ("ssh://pi@10.0.0.2:2222", ["-p", "2222", "--", "pi@10.0.0.2"]),
        ("ssh://pi@[fe80::1]/opt/py/bin/python", ["--", "pi@fe80::1", "/opt/py/bin/python -m dynnas"]),
    ],
)
def test_addresses(address, end):
    assert " ".join(end) in " ".join(ssh_command(address))
    assert TargetSettings(device=address).remote


@pytest.mark.parametrize(
    "address", ["ssh://", "ssh://-oProxyCommand=evil", "ssh://a b", "ssh://a/x;rm", "ssh://a:x"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(TargetError, match=r"allowed is ssh://host, with user@ before it"):
        ssh_command(address)
    assert not TargetSettings(device=address).remote


@pytest.fixture
def server(tmp_path):
    """A real SSH server on this machine, whose key is known or not by `known_hosts`."""
    if SSHD is None:
        pytest.skip("sshd is not installed")
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)]
        subprocess.run(command, check=True)
    shutil.copy(tmp_path / "user.pub", tmp_path / "authorized")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path / 'host'}\nPidFile none\n"
        f"AuthorizedKeysFile {tmp_path / 'authorized'}\nStrictModes no\nUsePAM no\n"
        f"SetEnv PYTHONPATH={ROOT} OMP_NUM_THREADS=1\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True) if os.geteuid() == 0 else None
    running = Server(tmp_path, port)
    try:
        yield running
    finally:
        running.kill()


class Server:
    """The SSH server at a port."""

    def __init__(self, folder, port):
        self.port, self._command = port, [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")]
        self.start()

    def start(self):
        # In a process group of its own, with all of its sessions and the programs that run in them.
        self._process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL, start_new_session=True)
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)

    def kill(self):
        """As if the machine were gone: the server, and every session."""
        for child in descendants(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self._process.wait()


def descendants(pid):
    """A process and all that come from it, by the system's table."""
    parents = {}
    for stat_file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            after = stat_file.read_text().rpartition(")")[2].split()
            parents[int(stat_file.parent.name)] = int(after[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found


def client(tmp_path, monkeypatch, known):
    """`ssh` with a configuration of its own: this key, these known hosts."""
    hosts = tmp_path / "known_hosts"
    hosts.write_text(known)
    real = shutil.which("ssh")
    install(
        tmp_path / "bin",
        f"exec {real} -F none -oUserKnownHostsFile={hosts} -oIdentityFile={tmp_path / 'user'} "
        '-oIdentitiesOnly=yes "$@"',
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")


def test_a_real_server_is_a_device(server, tmp_path, monkeypatch):
    host = " ".join((tmp_path / "host.pub").read_text().split()[:2])
    client(tmp_path, monkeypatch, f"[127.0.0.1]:{server.port} {host}\n")
    target = target_at(f"{getpass.getuser()}@127.0.0.1:{server.port}")
    times = timed(target)
    assert times.shape[0] == 1
    assert (times > 0).all()
    image = np.zeros((1, 2, 12, 12), np.float32)
    workload = Workload(build_runner(finished(config()), target), [image])
    assert RemoteTimer(target).peak_memory_mib([workload])[0] > 0


@pytest.mark.slow
def test_a_search_goes_on_when_the_server_and_its_sessions_are_killed(server, tmp_path, monkeypatch):
    host = " ".join((tmp_path / "host.pub").read_text().split()[:2])
    client(tmp_path, monkeypatch, f"[127.0.0.1]:{server.port} {host}\n")
    folder = tmp_path / "search"
    folder.mkdir()
    searching = search(folder, target_at(f"{getpass.getuser()}@127.0.0.1:{server.port}").device)
    try:
        while not (folder / "small" / "anchors.json").exists():
            assert searching.poll() is None, searching.communicate()
            time.sleep(0.05)
        server.kill()
        server.start()
        _, errors = searching.communicate(timeout=250)
        assert searching.returncode == 0, errors
    finally:
        searching.kill()
    members = json.loads((folder / "small" / "front.json").read_text())["members"]
    assert all(member["latency_ms"]["mean"] > 0 for member in members)
    assert members


def test_a_server_with_another_key_is_refused(server, tmp_path, monkeypatch):
    user = " ".join((tmp_path / "user.pub").read_text().split()[:2])  # not the host's
    client(tmp_path, monkeypatch, f"[127.0.0.1]:{server.port} {user}\n")
    with pytest.raises(TargetError, match=r"cannot be reached \(.*Host key verification failed"):
        Device(target_at(f"{getpass.getuser()}@127.0.0.1:{server.port}").device, b"", backoff=()).offers()
