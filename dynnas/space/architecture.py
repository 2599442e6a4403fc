"""One point of a design space, in canonical form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dynnas.errors import SpaceError

Value = int | float | str

FORMAT = 1


@dataclass(frozen=True)
class Architecture(Mapping[str, Value]):
    """The values of the active genes, and of no others: two spellings of one network are equal.

    Build one with `Space.architecture`, which checks the values and drops what does not apply. A mapping from gene
    name (`stage2.1.op`) to value, in the order of the space.
    """

    values_: tuple[tuple[str, Value], ...]
    _index: Mapping[str, Value] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_index", dict(self.values_))

    def __getitem__(self, name: str) -> Value:
        return self._index[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and self._index == other._index

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that name this network, the same on every machine and Python."""
        canonical = json.dumps(self._index, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def to_json(self) -> str:
        """A document that `from_json` reads back."""
        return json.dumps({"dynnas_architecture": FORMAT, "genes": dict(self._index)}, indent=2)

    @staticmethod
    def from_json(text: str) -> Architecture:
        """Read what `to_json` wrote; give the result to `Space.architecture` to check it against a space.

        Raises:
            SpaceError: not such a document, or of a newer format.
        """
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise SpaceError(f"architecture: not JSON ({error}); give a file that dynnas wrote") from error
        version = document.get("dynnas_architecture") if isinstance(document, dict) else None
        if version != FORMAT:
            raise SpaceError(
                f"architecture: found format {version!r}, this dynnas reads {FORMAT}; "
                "write the file again with the dynnas that reads it"
            )
        genes = document.get("genes")
        legal = isinstance(genes, dict) and all(
            isinstance(value, int | float | str) and not isinstance(value, bool) for value in genes.values()
        )
        if not legal:
            raise SpaceError("architecture: 'genes' must map gene names to numbers or texts")
        return Architecture(tuple(genes.items()))
