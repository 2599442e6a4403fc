"""The client of a device on another machine: it reconnects, and sends again what the device lacks."""

from __future__ import annotations

import shlex
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dynnas.errors import TargetError
from dynnas.latency.remote import tls
from dynnas.latency.remote.channel import (
    HANDSHAKE_SECONDS,
    BusyError,
    Channel,
    ChannelError,
    WrongTokenError,
    join_device,
)
from dynnas.latency.remote.replies import Replies
from dynnas.latency.remote.server import keep_alive
from dynnas.latency.remote.ssh import SshChannel, ssh_command
from dynnas.runtimes.document import DocumentError

BACKOFF = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before each new attempt after a connection was lost."""

REPLY_SECONDS = 60.0
MOST = 2**30
"""Maximum number of bytes of a reply."""

WAITING_SECONDS = 3600.0
"""Seconds for which other clients of a device are waited for."""

OVERHEAD = 1024
"""Number of bytes of a message beside its payload."""

TRIES_TO_SEND = 5

Reply = tuple[dict[str, Any], dict[str, np.ndarray]]


class Device:
    """A device that serves at an address; the client connects when it is first asked for something.

    Args:
        address: `tcp://host:port`, `tcp+tls://host:port`, or `ssh://` as `SshChannel` takes it.
        token: shared with a device that serves at a port.
        backoff: seconds before each new attempt.
        sleep: waits for a number of seconds.
        patience: seconds for which a device may say that others are being timed there.

    Raises:
        TargetError: the address is none.
    """

    def __init__(
        self,
        address: str,
        token: bytes,
        backoff: Sequence[float] = BACKOFF,
        sleep: Callable[[float], None] = time.sleep,
        patience: float = WAITING_SECONDS,
    ) -> None:
        self._channel: Channel | None = None
        self.address = address
        self._token, self._backoff, self._sleep = token, backoff, sleep
        self._patience, self._replies = patience, Replies(address)
        if address.startswith("ssh://"):
            ssh_command(address)
            return
        self._scheme, _, place = address.partition("://")
        host, _, port = place.rpartition(":")
        if not port.isdigit() or not 0 < int(port) < 2**16:
            raise TargetError(f"target: device {address}: found the port {port!r}; allowed: from 1 to 65535")
        self._place = (host.strip("[]"), int(port))

    def offers(self) -> tuple[list[str], int]:
        """Return the runtimes that are installed there, the best first, and the message limit in bytes."""
        return self._replies.offers(self.ask({"ask": "offers"})[0])

    def ask(
        self,
        header: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray] | None = None,
        seconds: float = REPLY_SECONDS,
    ) -> Reply:
        """Return the device's answer; after a lost connection, connect again and repeat the question.

        Raises:
            TargetError: the device cannot be reached, has another token, or cannot do what it is asked for.
        """
        for delay in (*self._backoff, None):
            try:
                reply = self._ask_once(header, arrays, seconds)
                break
            except WrongTokenError as error:
                raise TargetError(
                    f"target: device {self.address}: {error}; give this machine the one that `dynnas serve` "
                    "uses there, in $DYNNAS_TOKEN or its token file"
                ) from error
            except (ChannelError, DocumentError, OSError) as error:
                self.close()
                if delay is None:
                    advice = "see that `dynnas serve` runs there, and that host and port are right"
                    if self.address.startswith("ssh://"):
                        advice = f"see that this runs: {shlex.join(ssh_command(self.address))}"
                    raise TargetError(
                        f"target: device {self.address} cannot be reached ({error}); {advice}"
                    ) from error
                self._sleep(delay)
        if "error" in reply[0]:
            raise TargetError(f"target: device {self.address}: {str(reply[0]['error'])[:2000]}")
        return reply

    def ask_with(
        self, header: Mapping[str, Any], parts: Mapping[str, bytes], seconds: float = REPLY_SECONDS
    ) -> Reply:
        """Return the answer to a question about `parts`, by digest, and send those that the device lacks.

        Raises:
            TargetError: as `ask`, or it keeps too little to answer.
        """
        for _ in range(TRIES_TO_SEND):
            reply = self.ask(header, seconds=seconds)
            missing = self._replies.missing(reply[0], parts)
            if not missing:
                return reply
            for digest in missing:
                self._put(parts[digest])
        raise TargetError(
            f"target: device {self.address} does not keep the {sum(map(len, parts.values()))} bytes that it "
            "needs at a time; give `dynnas serve` more room there"
        )

    def __del__(self) -> None:
        """Close the connection when garbage-collected; LatencyMeter has no close()."""
        self.close()

    def close(self) -> None:
        """Hang up; the next question connects again."""
        if self._channel:
            self._channel.close()
            self._channel = None

    def _put(self, data: bytes) -> None:
        _, most = self.offers()
        if len(data) + OVERHEAD > most:
            raise TargetError(
                f"target: a network of {len(data)} bytes; the device {self.address} takes messages of {most}"
            )
        self.ask({"ask": "put"}, {"data": np.frombuffer(data, np.uint8)})

    def _connect(self) -> Channel:
        if self.address.startswith("ssh://"):
            return SshChannel(self.address, MOST)
        connection = socket.create_connection(self._place, timeout=HANDSHAKE_SECONDS)
        try:
            keep_alive(connection)
            if self._scheme == tls.SCHEME:
                connection = tls.join(connection, self._place[0], self.address)
            return join_device(connection, self._token, MOST)
        except BaseException:
            connection.close()
            raise

    def _ask_once(
        self, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None, seconds: float
    ) -> Reply:
        if self._channel is None:
            self._channel = self._connect()
        self._channel.send(header, arrays)
        end = time.monotonic() + self._patience
        while True:
            reply = self._channel.receive_whole(seconds)
            if reply[0].get("busy"):
                raise BusyError("it has as many clients as it takes")
            if not reply[0].get("waiting"):  # for another client, which is being timed
                return reply
            if time.monotonic() > end:
                raise ChannelError(f"it has said for {self._patience:g} seconds that others are being timed")
