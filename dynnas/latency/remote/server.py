"""The server that runs on a device: a thread for each client; nothing that a client sends can end it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dynnas.latency.remote.blob_cache import BlobCache
from dynnas.latency.remote.channel import (
    BUSY,
    GREETING,
    HANDSHAKE_SECONDS,
    MEGABYTE,
    Channel,
    ChannelError,
    WrongTokenError,
    accept_client,
)
from dynnas.latency.remote.requests import RequestHandler
from dynnas.runtimes.document import DocumentError

STRANGERS = 64
"""Maximum number of connections in their handshake: unfinished handshakes take no client's place."""


@dataclass(frozen=True)
class Limits:
    """The limits of what clients may use.

    Attributes:
        message, store: bytes of a message, and of all that is kept for clients.
        clients: connections at a time.
        idle_seconds: after which a silent client is hung up on; it connects again when it needs to.
    """

    message: int = 256 * MEGABYTE
    store: int = 1024 * MEGABYTE
    clients: int = 8
    idle_seconds: float = 600.0


class DeviceServer:
    """A server that listens from the start, and serves while `serve` runs.

    Args:
        token: shared with the clients.
        host, port: to listen at; port 0 for any that is free.
        device: `cpu` or `cuda`.
        report: told what happens, a line at a time.
        lock_folder: see `device_lock`.
        tls: encrypts every connection, see `dynnas.latency.remote.tls`.

    Raises:
        OSError: it cannot listen there.
    """

    def __init__(
        self,
        token: bytes,
        host: str = "127.0.0.1",
        port: int = 0,
        device: str = "cpu",
        limits: Limits | None = None,
        report: Callable[[str], None] = print,
        lock_folder: Path | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._tls = tls
        self._token, self._limits, self._report = token, limits or Limits(), report
        self._requests = RequestHandler(
            device, BlobCache(self._limits.store), self._limits.message, lock_folder
        )
        self._doors = threading.BoundedSemaphore(STRANGERS)
        self._seats = threading.BoundedSemaphore(self._limits.clients)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family)

    @property
    def address(self) -> tuple[str, int]:
        """Return host and port at which it listens."""
        return self._listener.getsockname()[:2]

    def serve(self) -> None:
        """Answer clients until `close`."""
        while True:
            try:
                connection, (host, *_) = self._listener.accept()
            except OSError:
                if self._listener.fileno() < 0:
                    return
                continue  # a client that hung up before it was let in
            threading.Thread(target=self._client, args=(connection, host), daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _client(self, connection: socket.socket, host: str) -> None:
        with contextlib.ExitStack() as ends:
            ends.enter_context(connection)
            try:
                self._converse(self._let_in(connection, ends))
            except (WrongTokenError, ChannelError, OSError) as error:
                self._report(f"{host}: {error}")

    def _let_in(self, connection: socket.socket, ends: contextlib.ExitStack) -> Channel:
        if not self._doors.acquire(blocking=False):
            connection.sendall(BUSY * len(GREETING))
            raise ChannelError("sent away, for too many are in their handshake")
        try:
            keep_alive(connection)
            if self._tls:
                connection.settimeout(HANDSHAKE_SECONDS)
                connection = ends.enter_context(self._tls.wrap_socket(connection, server_side=True))
            return accept_client(connection, self._token, self._limits.message)
        finally:
            self._doors.release()

    def _converse(self, channel: Channel) -> None:
        """Answer one client until it hangs up, if there is a place for it."""
        if not self._seats.acquire(blocking=False):
            channel.receive(HANDSHAKE_SECONDS)  # who hangs up on a question may take the answer with it
            channel.send({"busy": True})
            return
        try:
            answer_requests(channel, self._requests, self._limits.idle_seconds)
        finally:
            self._seats.release()


def answer_requests(channel: Channel, requests: RequestHandler, idle_seconds: float) -> None:
    """Answer one client.

    Raises:
        ChannelError: it has hung up, has been silent for `idle_seconds`, or broke the rules.
    """
    while True:
        try:
            header, arrays = channel.receive(idle_seconds)
            reply = requests.answer(header, arrays, lambda: channel.send({"waiting": True}))
        except ChannelError:
            raise
        except DocumentError as error:
            reply = {"error": str(error)}, {}
        except Exception as error:  # whatever a request does is that client's failure
            reply = {"error": f"{type(error).__name__}: {error}"[:2000]}, {}
        channel.send(*reply)


def keep_alive(connection: socket.socket) -> None:
    """Let the system find out, within half a minute, that the other end's machine is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
