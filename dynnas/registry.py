"""Registries: names of space files to what they mean."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import TypeVar

from dynnas.errors import SpaceError

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """Names of space files to what builds them, in the order of registration."""

    def __init__(self, kind: str) -> None:
        """`kind` names the entries in messages, such as "block"."""
        self._kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that enters a class under `name`.

        Raises:
            ValueError: the name is taken.
        """

        def enter(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self._kind} {name!r} is already registered: {self._entries[name]!r}")
            self._entries[name] = entry
            return entry

        return enter

    def __getitem__(self, name: str) -> T:
        """What was registered under `name`.

        Raises:
            SpaceError: nothing was.
        """
        try:
            return self._entries[name]
        except KeyError:
            near = get_close_matches(name, self._entries, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            known = ", ".join(self._entries)
            raise SpaceError(f"unknown {self._kind} {name!r}: known are {known}{hint}") from None

    def __contains__(self, name: object) -> bool:
        """Whether `name` is registered."""
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        """The registered names."""
        return iter(self._entries)

    def __len__(self) -> int:
        """How many are registered."""
        return len(self._entries)


def import_all(package: str, path: Iterable[str]) -> None:
    """Import every module of `package`, so that all that it holds is registered."""
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")
