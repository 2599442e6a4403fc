"""The environment that Ray reads as it is imported, and the check that a cluster's address answers."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from dynnas.errors import StudyError
from dynnas.threads import wait_passively

LOCAL = "local"

_REACH_SECONDS = 10.0


def prepare_ray(address: str) -> None:
    """Set the environment for the cluster at `address`; Ray reads some of it only while it is imported.

    Args:
        address: "local", "auto", or host:port.

    Raises:
        StudyError: nobody listens at host:port.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or every worker warns of it
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 lets any other program go first
    wait_passively()  # actors on this machine have this process's environment
    if ":" not in address:
        return
    try:
        here = _reach(address)
    except (OSError, ValueError) as error:
        raise no_cluster(address, error) from error
    if here and _has_token():
        # `ray start` asks for the user's token if there is one; Ray itself shows it to "auto" alone.
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def no_cluster(address: str, error: Exception) -> StudyError:
    """Return the error for an address at which there is no cluster, or none that lets this process in."""
    return StudyError(
        f"--ray: no cluster at {address} ({str(error).splitlines()[0]}); start one with "
        "`ray start --head`, leave the address out for one on this machine, or if another machine's asks "
        "for a token, copy its ~/.ray/auth_token and set RAY_AUTH_MODE=token"
    )


def _has_token() -> bool:
    """Return whether the user has a token where Ray's documentation puts it."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return True
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return (Path(path) if path else Path.home() / ".ray" / "auth_token").exists()


def _reach(address: str) -> bool:
    """Check that somebody listens there: Ray itself would try for minutes.

    Returns:
        Whether it is this machine, which reaches its own addresses from the same address.

    Raises:
        OSError: nobody listens.
    """
    host, _, port = address.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_SECONDS) as there:
        return bool(there.getpeername()[0] == there.getsockname()[0])
