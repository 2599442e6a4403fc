"""The URLs of the databases that keep trials, and the paths of SQLite's files."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from dynnas.errors import StudyError


def parse_url(url: str) -> URL:
    """Return the parts of a database's URL.

    Raises:
        StudyError: it is not a URL.
    """
    try:
        return make_url(url)
    except ArgumentError as error:
        raise cannot_open(url, error) from error


def cannot_open(url: str, error: Exception) -> StudyError:
    """Return the error for a URL that leads to no database."""
    return StudyError(
        f"storage: cannot open {url!r} ({error}); give an SQLAlchemy URL such as sqlite:///study.db "
        "or postgresql+psycopg://user@host/database, with its driver installed"
    )


def sqlite_url(path: Path) -> str:
    """Return the URL of an SQLite file, whatever characters its path has."""
    return URL.create("sqlite", database=str(path.resolve())).render_as_string()


def sqlite_file(url: URL) -> Path | None:
    """Return the file of an SQLite database; None for one in memory, and for other databases."""
    name = url.database
    if url.get_backend_name() != "sqlite" or not name or name == ":memory:":
        return None
    if not name.startswith("file:"):
        return Path(name)
    if url.query.get("mode") == "memory":
        return None
    return Path(unquote(urlsplit(name).path))


def without_password(url: URL) -> str:
    """Return the URL for files and messages."""
    # `URL.set(password=None)` would leave the password as it is.
    bare = URL.create(url.drivername, url.username, None, url.host, url.port, url.database, url.query)
    return bare.render_as_string()


def kept_url(url: str) -> str:
    """Return the URL as a study's record keeps it: it means the same from every folder, and has no password.

    The database's own means (such as ~/.pgpass) know the password.

    Raises:
        StudyError: it is not a URL.
    """
    parts = parse_url(url)
    file = sqlite_file(parts)
    if file is not None and not str(parts.database).startswith("file:"):
        parts = parts.set(database=str(file.resolve()))
    return without_password(parts)
