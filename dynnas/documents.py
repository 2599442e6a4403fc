"""The JSON files that a study keeps: each says its kind and format, and is read back or refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dynnas.errors import DynnasError, StudyError

Content = TypeVar("Content")


@dataclass(frozen=True)
class Document:
    """A kind of file.

    Attributes:
        kind: the key under which a file says its format.
        format: the number that this dynnas writes, and the only one that it reads.
        mend: what to do about a file that cannot be read.
        error: is raised for such a file.
    """

    kind: str
    format: int
    mend: str
    error: type[DynnasError] = StudyError

    def write(self, content: Mapping[str, Any]) -> str:
        """Return the text of a file."""
        return json.dumps({self.kind: self.format, **content}, indent=2) + "\n"

    def load(self, path: Path, make: Callable[[dict[str, Any]], Content]) -> Content:
        """Read the file `path`, and return the result of `make` on its content.

        Raises:
            DynnasError: of the class `error`: it cannot be read, is not such a file, or of another format.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise self.error(f"{path}: cannot be read ({error}); {self.mend}") from error
        return self.read(text, path, make)

    def read(self, text: str, where: Path | str, make: Callable[[dict[str, Any]], Content]) -> Content:
        """Return the result of `make` on the content of a file; `where` is for messages.

        Raises:
            DynnasError: of the class `error`: not such a file, or of another format.
        """
        try:
            content = json.loads(text)
            found = content.pop(self.kind)
            if found == self.format:
                return make(content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self.error(f"{where}: damaged, or not by dynnas ({error!r}); {self.mend}") from error
        raise self.error(f"{where}: found format {found!r}, this dynnas reads {self.format}; {self.mend}")


def provenance_digest(parts: Mapping[str, str]) -> str:
    """Return sixteen hexadecimal digits for everything beside the architecture that a result depends on."""
    return hashlib.sha256(json.dumps(dict(parts), sort_keys=True).encode()).hexdigest()[:16]
