"""The secret token that a device shares with its users."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from dynnas.errors import TargetError
from dynnas.files import config_folder

VARIABLE = "DYNNAS_TOKEN"
LEAST = 16
"""Minimum number of characters of a token."""


def token_path() -> Path:
    """Return the default path of a user's token."""
    return config_folder() / "token"


def find_token(file: Path | None = None) -> bytes | None:
    """Return the token in `file`, else in $DYNNAS_TOKEN, else in `token_path()`; None if there is none.

    Raises:
        TargetError: the token is too short, or others can read the file.
    """
    if file is None and (text := os.environ.get(VARIABLE)):
        return _checked(text, f"${VARIABLE}")
    path = file or token_path()
    if not path.exists():
        return None
    if path.stat().st_mode & 0o077:
        raise TargetError(f"{path}: other users may read this token; close it with chmod 600 {path}")
    return _checked(path.read_text(), str(path))


def make_token(file: Path | None = None) -> tuple[bytes, Path]:
    """Make a new token, in a file that only its owner may read.

    Raises:
        FileExistsError: the file is there.
    """
    path = file or token_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_urlsafe(32)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(token + "\n")
    return token.encode(), path


def _checked(text: str, where: str) -> bytes:
    token = text.strip().encode()
    if len(token) < LEAST:
        raise TargetError(f"{where}: a token has at least {LEAST} characters, this one {len(token)}")
    return token
