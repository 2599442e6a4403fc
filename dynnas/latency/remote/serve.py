"""The program of a device with numpy and one runtime alone: `python -m dynnas.latency.remote.serve`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dynnas.errors import DynnasError, TargetError
from dynnas.latency.remote.blob_cache import BlobCache
from dynnas.latency.remote.channel import MEGABYTE, ChannelError
from dynnas.latency.remote.requests import RequestHandler
from dynnas.latency.remote.server import DeviceServer, Limits, answer_requests
from dynnas.latency.remote.ssh import accept_pipes
from dynnas.latency.remote.tls import SCHEME, server_context
from dynnas.latency.remote.token import VARIABLE, find_token, make_token, token_path
from dynnas.runtimes.runtime import offered_runtimes

HOST, PORT, MESSAGE_MIB = "127.0.0.1", 7411, 256


def serve(
    host: str = HOST,
    port: int = PORT,
    device: str = "cpu",
    token_file: Path | None = None,
    message_mib: int = MESSAGE_MIB,
    certificate: Path | None = None,
    key: Path | None = None,
) -> None:
    """Serve this machine as a device, until interrupted.

    Args:
        host, port: where to listen; port 0 for any that is free. device: `cpu` or `cuda`.
        token_file: holds the secret; made if it is not there. Without one, see `find_token`.
        message_mib: of the largest network that is taken; four times that is kept.
        certificate, key: PEM files, for TLS; see `server_context`.

    Raises:
        TargetError: no runtime is installed for the device, or the token or the certificate is no good.
        OSError: it cannot listen there.
    """
    offered = offered_runtimes(device)
    if not offered:
        raise TargetError(f"no runtime for {device} is installed here: pip install onnxruntime, or torch")
    token = find_token(token_file)
    if token is None:
        token, path = make_token(token_file)
        _say(f"new token, kept in {path}: {token.decode()}")
    message = message_mib * MEGABYTE
    tls = server_context(certificate, key) if certificate else None
    server = DeviceServer(token, host, port, device, Limits(message, 4 * message), _say, tls=tls)
    shown = f"[{server.address[0]}]" if ":" in server.address[0] else server.address[0]
    place = f"{SCHEME if tls else 'tcp'}://{shown}:{server.address[1]}"
    _say(f"serving {device} with {', '.join(offered)} at {place}; Ctrl-C ends it")
    try:
        server.serve()
    finally:
        server.close()


def serve_pipes(device: str = "cpu", message_mib: int = MESSAGE_MIB) -> None:
    """Serve one client over standard input and output, until it hangs up; for `ssh://` targets.

    Args:
        device: `cpu` or `cuda`. message_mib: of the largest network that is taken; four times that is kept.

    Raises:
        TargetError: no runtime is installed for the device.
    """
    if not offered_runtimes(device):
        raise TargetError(f"no runtime for {device} is installed here: pip install onnxruntime, or torch")
    limits = Limits(message_mib * MEGABYTE, 4 * message_mib * MEGABYTE)
    channel = accept_pipes(limits.message)
    try:
        answer_requests(
            channel, RequestHandler(device, BlobCache(limits.store), limits.message), limits.idle_seconds
        )
    except ChannelError:  # the client has hung up
        channel.close()


def main() -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m dynnas.latency.remote.serve", description="Serve this machine as a device to dynnas."
    )
    parser.add_argument("--host", default=HOST, help="where to listen; only this machine if not given")
    parser.add_argument("--port", type=int, default=PORT, help="0 for any that is free")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument(
        "--token-file", type=Path, help=f"the secret; else ${VARIABLE}, else {token_path()}; made if missing"
    )
    parser.add_argument(
        "--stdio", action="store_true", help="serve one client over standard input and output, as by ssh"
    )
    parser.add_argument("--message-mib", type=int, default=MESSAGE_MIB, help="size of the largest network")
    parser.add_argument("--certificate", type=Path, help="PEM file for TLS: clients say tcp+tls://")
    parser.add_argument("--key", type=Path, help="PEM file of its private key, if it is not in the same one")
    given = parser.parse_args()
    try:
        if given.stdio:
            serve_pipes(given.device, given.message_mib)
            return
        serve(
            given.host,
            given.port,
            given.device,
            given.token_file,
            given.message_mib,
            given.certificate,
            given.key,
        )
    except (DynnasError, OSError, OverflowError) as error:
        sys.exit(f"dynnas: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
