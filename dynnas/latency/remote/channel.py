"""An authenticated connection: both ends prove that they know the token, and every message proves it again.

The device sends a nonce, the client another one and the HMAC (SHA-256) of both under the token, the device
its own HMAC of them. The token never travels, and neither end's proof serves for another connection or for
the other direction. A key is derived from token and nonces; every message carries the HMAC, under that key,
of its direction, its number and its bytes, so that none can be forged, changed, repeated or left out. What
is sent can be read on the way: where that matters, go through TLS (`dynnas.latency.remote.tls`) or SSH.
"""

from __future__ import annotations

import hmac
import secrets
import socket
import time
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from dynnas.errors import DynnasError
from dynnas.runtimes.document import read_document, write_document

GREETING = b"dynnas-device 1\n"
ACCEPTED, DENIED, BUSY = b"+", b"-", b"~"
NONCE = PROOF = 32
HANDSHAKE_SECONDS = 10.0
MEGABYTE = 2**20


class ChannelError(DynnasError):
    """Raised when the other end breaks the protocol, or the connection breaks."""


class WrongTokenError(DynnasError):
    """Raised when the two ends do not have the same token."""


class BusyError(ChannelError):
    """Raised when the device has as many clients as it takes."""


class Connection(Protocol):
    """The part of a socket that a channel uses."""

    def settimeout(self, seconds: float | None, /) -> None:
        """Set how long `recv` waits."""

    def recv(self, count: int, /) -> bytes:
        """Return up to `size` bytes; none when the other end has hung up."""
        ...

    def sendall(self, data: bytes, /) -> None:
        """Send all bytes."""

    def close(self) -> None:
        """Hang up."""


class Channel:
    """One end of an authenticated connection.

    Args:
        connection: after the handshake.
        key: of this connection.
        outgoing, incoming: names of the two directions.
        most: bytes that a message may have.
    """

    def __init__(
        self, connection: Connection, key: bytes, outgoing: bytes, incoming: bytes, most: int
    ) -> None:
        self._connection, self._key, self._most = connection, key, most
        self._outgoing, self._incoming = outgoing, incoming
        self._sent = self._received = 0

    def send(self, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> None:
        """Send one message.

        Raises:
            ChannelError: it is too long, or the connection broke.
        """
        body = write_document(header, arrays)
        if len(body) > self._most:
            raise ChannelError(f"a message of {len(body)} bytes; at most {self._most} are allowed")
        proof = _proof(self._key, self._outgoing, self._sent.to_bytes(8, "big"), body)
        self._sent += 1
        try:
            self._connection.sendall(len(body).to_bytes(8, "big") + proof)
            self._connection.sendall(body)
        except OSError as error:
            raise ChannelError(f"the connection broke: {error}") from error

    def receive(self, seconds: float | None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Receive the other end's next message; each part of it must come within `seconds`.

        Raises:
            ChannelError: it is too long or not authentic, the connection broke, or nothing came.
            DocumentError: it is authentic, but no document.
        """
        self._connection.settimeout(seconds)
        return self._receive(None)

    def receive_whole(self, seconds: float) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Receive the other end's next message, which must be there as a whole within `seconds`.

        Raises:
            ChannelError, DocumentError: as `receive`.
        """
        return self._receive(time.monotonic() + seconds)

    def _receive(self, end: float | None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        size = int.from_bytes(receive_exactly(self._connection, 8, end), "big")
        if size > self._most:
            raise ChannelError(f"a message of {size} bytes; at most {self._most} are allowed")
        proof = receive_exactly(self._connection, PROOF, end)
        body = receive_exactly(self._connection, size, end)
        expected = _proof(self._key, self._incoming, self._received.to_bytes(8, "big"), body)
        if not hmac.compare_digest(proof, expected):
            raise ChannelError("a message that does not come from the other end")
        self._received += 1
        return read_document(body)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def accept_client(connection: socket.socket, token: bytes, most: int) -> Channel:
    """Run the device's side of the handshake.

    Raises:
        WrongTokenError: the client does not know the token; it was told.
        ChannelError: it speaks another language, or not at all.
    """
    connection.settimeout(HANDSHAKE_SECONDS)
    ours = secrets.token_bytes(NONCE)
    _send(connection, GREETING + ours)
    theirs = receive_exactly(connection, NONCE)
    proof = receive_exactly(connection, PROOF)
    if not hmac.compare_digest(proof, _proof(token, b"client", ours, theirs)):
        _send(connection, DENIED)
        raise WrongTokenError("a client with another token")
    _send(connection, ACCEPTED + _proof(token, b"device", ours, theirs))
    return Channel(connection, _proof(token, b"key", ours, theirs), b"device", b"client", most)


def join_device(connection: socket.socket, token: bytes, most: int) -> Channel:
    """Run the client's side of the handshake.

    Raises:
        WrongTokenError: the device does not know the token.
        BusyError: it takes no more clients now.
        ChannelError: it speaks another language, or not at all.
    """
    connection.settimeout(HANDSHAKE_SECONDS)
    greeting = receive_exactly(connection, len(GREETING))
    if greeting != GREETING:
        if greeting[:1] == BUSY:
            raise BusyError("the device has as many clients as it takes")
        raise ChannelError(f"what answers there is no device of this dynnas: it says {greeting!r}")
    theirs = receive_exactly(connection, NONCE)
    ours = secrets.token_bytes(NONCE)
    _send(connection, ours + _proof(token, b"client", theirs, ours))
    if receive_exactly(connection, 1) != ACCEPTED:
        raise WrongTokenError("the device has another token")
    proof = receive_exactly(connection, PROOF)
    if not hmac.compare_digest(proof, _proof(token, b"device", theirs, ours)):
        raise WrongTokenError("what answers there does not know the token")
    return Channel(connection, _proof(token, b"key", theirs, ours), b"client", b"device", most)


def receive_exactly(connection: Connection, count: int, end: float | None = None) -> bytes:
    """Receive exactly `count` bytes; memory grows with what comes, not with what was announced.

    Args:
        connection: each part must come within its timeout.
        count: of bytes.
        end: the time, by `time.monotonic`, by which all of them must have come.

    Raises:
        ChannelError: they do not come.
    """
    received = bytearray()
    while len(received) < count:
        try:
            if end is not None:
                connection.settimeout(max(0.001, end - time.monotonic()))
            part = connection.recv(min(count - len(received), MEGABYTE))
            if end is not None and time.monotonic() > end and len(part) < count - len(received):
                raise TimeoutError("timed out")
        except OSError as error:
            raise ChannelError(f"the connection broke: {error}") from error
        if not part:
            raise ChannelError("the connection was closed")
        received += part
    return bytes(received)


def _send(connection: socket.socket, data: bytes) -> None:
    try:
        connection.sendall(data)
    except OSError as error:
        raise ChannelError(f"the connection broke: {error}") from error


def _proof(key: bytes, what: bytes, *parts: bytes) -> bytes:
    """Return the HMAC of parts whose lengths are known from `what`, except the last one."""
    made = hmac.new(key, what + b"|", "sha256")
    for part in parts:
        made.update(part)
    return made.digest()
