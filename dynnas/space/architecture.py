"""One point of a design space, in canonical form."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from dynnas.errors import SpaceError

Value: TypeAlias = Any
"""An int, float, str, bool, None, or a tuple of these; code that reads a gene knows which."""

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Architecture(Mapping[str, Value]):
    """The values of the active genes, and of no others: two spellings of one network are equal.

    Build one with `Space.architecture`, which checks the values and drops what does not apply. A mapping from
    gene name (`stage2.1.op`) to value, in the order of the space; the order does not count for equality, but
    1 and 1.0 are two values.
    """

    values_: tuple[tuple[str, Value], ...]

    @cached_property
    def _index(self) -> Mapping[str, Value]:
        return dict(self.values_)

    @cached_property
    def _canonical(self) -> str:
        return json.dumps(self._index, sort_keys=True, separators=(",", ":"))

    def __getitem__(self, name: str) -> Value:
        return self._index[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and self._canonical == other._canonical

    def __hash__(self) -> int:
        return hash(self._canonical)

    @cached_property
    def key(self) -> str:
        """Twelve hexadecimal digits that name this network, the same on every machine and Python."""
        return hashlib.sha256(self._canonical.encode()).hexdigest()[:12]

    def to_json(self) -> str:
        """Return a document that `from_json` reads back."""
        return json.dumps({"dynnas_architecture": FORMAT, "genes": dict(self._index)}, indent=2)

    @staticmethod
    def from_json(text: str) -> Architecture:
        """Read what `to_json` wrote; give the result to `Space.architecture` to check it against a space.

        Raises:
            SpaceError: not such a document, or of another format.
        """
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SpaceError(f"architecture: not JSON ({error}); give a file that dynnas wrote") from error
        version = document.get("dynnas_architecture") if isinstance(document, dict) else None
        if version != FORMAT:
            raise SpaceError(
                f"architecture: found format {version!r}, this dynnas reads {FORMAT}; "
                "write the file again with the dynnas that reads it"
            )
        genes = document.get("genes")
        if not isinstance(genes, dict):
            raise SpaceError("architecture: 'genes' must map gene names to values")
        try:
            return Architecture(tuple((name, as_value(value)) for name, value in genes.items()))
        except SpaceError as error:
            raise SpaceError(f"architecture: 'genes' must map gene names to values; {error}") from error


def as_value(value: object) -> Value:
    """Return `value` as a gene may have it: lists and arrays as tuples, and their numbers as Python's own.

    Raises:
        SpaceError: it is no finite number, text, truth value, None, or sequence of these.
    """
    if isinstance(value, list | tuple):
        return tuple(as_value(each) for each in value)
    if hasattr(value, "tolist") and not isinstance(value, type):  # numbers and arrays of numpy and torch
        return as_value(value.tolist())
    if value is None or isinstance(value, int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    mend = (
        "; give a text for each, and let the constructor look up what it stands for"
        if callable(value) or hasattr(value, "__dict__")
        else ""
    )
    raise SpaceError(f"{value!r} is no finite number, text, True, False, None, or sequence of these{mend}")
