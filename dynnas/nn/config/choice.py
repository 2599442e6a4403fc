"""One choice of a layer: the name of an operator and the values of its knobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dynnas.errors import SpaceError
from dynnas.space.architecture import Value


@dataclass(frozen=True)
class Choice:
    """An operator by its name, and the values of its knobs in the order in which they are given."""

    name: str
    params: tuple[tuple[str, Value], ...] = ()

    @staticmethod
    def of(name: str, **params: Value) -> Choice:
        """Make a choice, as in `Choice.of("condconv", experts=4)`."""
        return Choice(name, tuple(params.items()))

    def __getitem__(self, knob: str) -> Any:
        """Return the value of a knob.

        Raises:
            SpaceError: it is not given.
        """
        for name, value in self.params:
            if name == knob:
                return value
        raise SpaceError(f"{self.name!r} has a knob {knob!r}, and its config has none")

    def get(self, knob: str, default: Any = None) -> Any:
        """Return the value of a knob, or `default` where it is not given."""
        return dict(self.params).get(knob, default)

    def replaced(self, **params: Value) -> Choice:
        """Return the same operator with other values of these knobs."""
        return Choice(self.name, tuple({**dict(self.params), **params}.items()))

    def keywords(self) -> dict[str, Any]:
        """Return the knobs as keyword arguments."""
        return dict(self.params)

    def __str__(self) -> str:
        return self.name

    def to_json(self) -> dict[str, Any]:
        """Return a document that `from_json` reads."""
        return {"name": self.name, **dict(self.params)}

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Choice:
        """Read what `to_json` returned."""
        params = dict(document)
        return Choice(params.pop("name"), tuple(params.items()))
