"""The server that runs on a device: a thread for each client, nothing that a client sends can end it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dynnas.device.channel import (
    BUSY,
    GREETING,
    MEGABYTE,
    Channel,
    ChannelError,
    WrongTokenError,
    accept_client,
)
from dynnas.device.document import DocumentError
from dynnas.device.requests import Requests
from dynnas.device.store import Store


@dataclass(frozen=True)
class Limits:
    """What clients may use.

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
    """Listens from the start, and serves while `serve` runs.

    Args:
        token: shared with the clients.
        host, port: to listen at; port 0 for any that is free.
        device: `cpu` or `cuda`.
        report: told what happens, a line at a time.
        lock_folder: see `device_lock`.

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
    ) -> None:
        self._token, self._limits, self._report = token, limits or Limits(), report
        self._requests = Requests(device, Store(self._limits.store), self._limits.message, lock_folder)
        self._free = threading.BoundedSemaphore(self._limits.clients)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port at which it listens."""
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
        """Listen no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _client(self, connection: socket.socket, host: str) -> None:
        with connection:
            if not self._free.acquire(blocking=False):
                with contextlib.suppress(OSError):
                    connection.sendall(BUSY * len(GREETING))
                return
            try:
                keep_alive(connection)
                self._converse(accept_client(connection, self._token, self._limits.message))
            except (WrongTokenError, ChannelError, OSError) as error:
                self._report(f"{host}: {error}")
            finally:
                self._free.release()

    def _converse(self, channel: Channel) -> None:
        """Answer one client until it hangs up."""
        while True:
            try:
                header, arrays = channel.receive(self._limits.idle_seconds)
                reply = self._requests.answer(header, arrays, lambda: channel.send({"waiting": True}))
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
