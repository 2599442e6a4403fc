"""A device over SSH: the timing program runs there and speaks through its standard input and output.

SSH authenticates both ends and encrypts; on this channel the proofs of messages are checksums. The device
needs no server of ours, no open port and no token: an account that `ssh` enters without asking, and Python
with dynnas, numpy and one runtime.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
from typing import IO

from dynnas.errors import TargetError
from dynnas.latency.remote.channel import GREETING, Channel, ChannelError, receive_exactly

SSH = re.compile(r"ssh://((?:[\w.-]+@)?(?:[\w.][\w.-]*|\[[0-9A-Fa-f:.]+\]))(?::(\d{1,5}))?(/[\w./+-]*)?")
"""The form of an address: account and host, port, and the path of the Python there."""

CONNECT_SECONDS = 60.0
MOST_NOISE = 2**16
"""Maximum number of bytes that a login may print before the program starts."""


class SshChannel(Channel):
    """The client's end of a connection by `ssh`; closing it ends the program there.

    Args:
        address: `ssh://[user@]host[:port][/path/to/python]`; the Python is `python3` if there is no path.
        most: bytes that a message may have.

    Raises:
        TargetError: the address is none, or no `ssh` is installed.
        ChannelError: it cannot connect, or what runs there is no timing program; says what ssh said.
    """

    def __init__(self, address: str, most: int) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `close`
        ours, theirs = socket.socketpair()
        try:
            end = theirs.fileno()
            self._process = subprocess.Popen(ssh_command(address), stdin=end, stdout=end, stderr=self._errors)
        except FileNotFoundError as error:
            ours.close()
            self._errors.close()
            raise TargetError(
                f"target: device {address}: no ssh is installed here; install OpenSSH's client"
            ) from error
        finally:
            theirs.close()
        super().__init__(ours, b"", b"client", b"device", most)
        try:
            ours.settimeout(CONNECT_SECONDS)
            _skip_noise(ours)
        except ChannelError as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            said = self._said()
            self.close()
            raise ChannelError(said or str(error)) from error

    def close(self) -> None:
        """Hang up."""
        super().close()
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._errors.close()

    def _said(self) -> str:
        """Return the last lines that ssh, or the program there, wrote to standard error."""
        self._errors.seek(0)
        lines = self._errors.read()[-2000:].decode(errors="replace").strip().splitlines()
        return "; ".join(line.strip() for line in lines[-3:])


def ssh_command(address: str) -> list[str]:
    """Return the command that runs the timing program at an address.

    Raises:
        TargetError: it is none.
    """
    found = SSH.fullmatch(address)
    if found is None:
        raise TargetError(
            f"target: device {address}: allowed is ssh://host, with user@ before it, :port and "
            "/path/to/python behind it"
        )
    host, port, python = found.groups()
    options = ("BatchMode=yes", "ServerAliveInterval=10", "ServerAliveCountMax=3")
    command = ["ssh", "-T", *(f"-o{option}" for option in options), *(["-p", port] if port else [])]
    program = f"{python or 'python3'} -m dynnas.latency.remote.serve --stdio"
    return [*command, "--", host.replace("[", "").replace("]", ""), program]


def _skip_noise(connection: socket.socket) -> None:
    """Read up to the greeting: a login may print before it.

    Raises:
        ChannelError: it does not come.
    """
    seen = bytearray()
    while not seen.endswith(GREETING):
        if len(seen) > MOST_NOISE:
            raise ChannelError(f"what answers there is no device of this dynnas: {bytes(seen[:80])!r}")
        seen += receive_exactly(connection, 1)


class Pipes:
    """Standard input and output in place of a socket."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._seconds: float | None = None

    def settimeout(self, seconds: float | None) -> None:
        """Set how long `recv` waits."""
        self._seconds = seconds

    def recv(self, count: int) -> bytes:
        """Return up to `size` bytes; none when the other end has hung up."""
        end = None if self._seconds is None else time.monotonic() + self._seconds
        ready, _, _ = select.select(
            [self._incoming], [], [], None if end is None else max(0.0, end - time.monotonic())
        )
        if not ready:
            raise TimeoutError("timed out")
        return os.read(self._incoming, count)

    def sendall(self, data: bytes) -> None:
        """Write all bytes."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._outgoing, view) :]

    def close(self) -> None:
        """Close both streams."""
        os.close(self._incoming)
        os.close(self._outgoing)


def accept_pipes(most: int) -> Channel:
    """Accept a client over this process's standard input and output, after its greeting.

    Whatever else prints from now on goes to standard error.
    """
    outgoing, incoming = os.dup(1), os.dup(0)
    sys.stdout.flush()
    os.dup2(2, 1)
    pipes = Pipes(incoming, outgoing)
    pipes.sendall(GREETING)
    return Channel(pipes, b"", b"device", b"client", most)
