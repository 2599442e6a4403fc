"""Registries: names to the classes that carry them, found in the package itself and in installed plug-ins.

A registry fills itself when it is first read: it imports the modules of its own package, and then what other
installed distributions offer by an entry point of its group. So a plug-in is one file and one line of its
`pyproject.toml`:

    [project.entry-points."dynnas.kernels"]
    mine = "my_package.kernel"          # a module that registers, or "my_package.kernel:Mine"
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, distributions
from types import ModuleType
from typing import Any, TypeVar

from dynnas.errors import DynnasError, PluginError, SpaceError, nearest

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """The entries of one kind by name.

    Args:
        kind: names the entries in messages, such as "block".
        group: entry-point group whose plug-ins belong here, such as "dynnas.blocks"; None for none.
        package: dotted name of the package whose modules register the built-in entries; None for none.
        order: sorts the entries; without it built-in ones are sorted by their modules' names, and those of
            others follow in the order of registration.
        base: every entry must be a subclass of it; None for any entry.
        error: raised for a name that is not registered.
    """

    def __init__(
        self,
        kind: str,
        *,
        group: str | None = None,
        package: str | None = None,
        order: Callable[[T], Any] | None = None,
        base: type | None = None,
        error: type[DynnasError] = SpaceError,
    ) -> None:
        self._kind, self._group, self._package = kind, group, package
        self._order, self._base, self._error = order, base, error
        self._entries: dict[str, T] = {}
        self._origins: dict[str, str] = {}
        self._lock = threading.RLock()
        self._own_loaded = package is None
        self._plugins_loaded = group is None
        self._loading = False
        self._plugin: EntryPoint | None = None

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that enters a class (or function) under `name`.

        The same definition, run again, takes the place of the earlier one.

        Raises:
            ValueError: another entry has the name; the message names both.
            TypeError: the entry is no subclass of the registry's base.
        """

        def enter(entry: T) -> T:
            with self._lock:
                if not self._loading and not self._is_own(entry):
                    self._load_own()  # so that a built-in name that is taken again is an error at this line
                self._enter(name, entry)
            return entry

        return enter

    def origin(self, name: str) -> str:
        """Return the distribution, or else the module, that brought the entry `name`.

        Raises:
            DynnasError: there is no such entry.
        """
        self[name]
        return self._origins[name]

    def load(self) -> None:
        """Register everything that belongs here, if that has not been done; reading the registry calls it.

        Raises:
            PluginError: a plug-in cannot be loaded, or takes a name that another entry has.
        """
        if self._own_loaded and self._plugins_loaded:
            return
        with self._lock:
            if self._loading:  # a module that is being imported reads the registry: it sees what is there
                return
            self._load_own()
            if not self._plugins_loaded:
                self._load_plugins()

    def __getitem__(self, name: str) -> T:
        """Return the entry that was registered under `name`.

        Raises:
            DynnasError: there is none, of the class given as `error`.
        """
        self.load()
        try:
            return self._entries[name]
        except KeyError:
            known = ", ".join(self)
            raise self._error(
                f"unknown {self._kind} {name!r}{nearest(name, self._entries)}; known: {known}"
            ) from None

    def __contains__(self, name: object) -> bool:
        """Return whether `name` is registered."""
        self.load()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        """Return the registered names."""
        self.load()
        names = list(self._entries)
        names.sort(key=lambda name: self._place(self._entries[name]))
        return iter(names)

    def __len__(self) -> int:
        """Return the number of entries."""
        self.load()
        return len(self._entries)

    def _place(self, entry: T) -> Any:
        """Return the sort key of an entry, which does not depend on the order of registration."""
        if self._order is not None:
            return self._order(entry), getattr(entry, "__qualname__", "")
        return (0, str(getattr(entry, "__module__", ""))) if self._is_own(entry) else (1, "")

    def _enter(self, name: str, entry: T) -> None:
        base = self._base
        if base is not None and not (isinstance(entry, type) and issubclass(entry, base)):
            raise TypeError(f"{self._kind} {name!r}: {_path(entry)} must be a subclass of {_path(base)}")
        held = self._entries.get(name)
        if held is not None and not _is_defined_again(held, entry):
            raise ValueError(
                f"{self._kind} {name!r} is already registered by {_path(held)}; "
                f"{_path(entry)} must have another name"
            )
        self._entries[name] = entry
        distribution = self._plugin.dist if self._plugin else None
        self._origins[name] = distribution.name if distribution else getattr(entry, "__module__", "")

    def _is_own(self, entry: T) -> bool:
        own = self._package
        return own is not None and f"{getattr(entry, '__module__', '')}.".startswith(f"{own}.")

    def _load_own(self) -> None:
        """Import every module of the registry's own package."""
        if self._own_loaded or self._loading or self._package is None:
            return
        self._loading = True
        try:
            package = importlib.import_module(self._package)
            for module in pkgutil.walk_packages(package.__path__, f"{self._package}."):
                importlib.import_module(module.name)
            self._own_loaded = True
        finally:
            self._loading = False

    def _load_plugins(self) -> None:
        self._loading = True
        try:
            for point in sorted(_installed(tuple(sys.path)), key=_place):
                if point.group == self._group:
                    self._load_plugin(point)
            self._plugins_loaded = True
        finally:
            self._loading, self._plugin = False, None

    def _load_plugin(self, point: EntryPoint) -> None:
        self._plugin = point
        try:
            entry = point.load()
            if not isinstance(entry, ModuleType) and not any(entry is own for own in self._entries.values()):
                self._enter(point.name, entry)
        except Exception as error:  # whatever a stranger's module may raise
            package = point.dist.name if point.dist else "an unknown package"
            raise PluginError(
                f"{self._kind} plug-in {point.name!r} of package {package!r} (entry point {self._group}: "
                f"{point.name} = {point.value}) cannot be loaded: {type(error).__name__}: {error}; "
                f"mend it, or remove it with: pip uninstall {package}"
            ) from error


@lru_cache(maxsize=2)
def _installed(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Return the entry points of every distribution on `path`.

    Registries share the scan, which takes milliseconds.

    Of two copies of a distribution the first on the path counts, as for its modules.
    """
    found: dict[str, list[EntryPoint]] = {}
    for distribution in distributions():
        points = [point for point in distribution.entry_points if point.group.startswith("dynnas.")]
        if points:  # reading the name of every distribution takes longer than all else
            found.setdefault(distribution.name, points)
    return tuple(point for points in found.values() for point in points)


def _place(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name if point.dist else "", point.name)


def _is_defined_again(held: object, entry: object) -> bool:
    """Return whether one definition ran twice, as in a notebook or after an import that failed."""
    return hasattr(entry, "__qualname__") and _path(held) == _path(entry)


def _path(entry: object) -> str:
    """Return the dotted path of an entry, such as `dynnas.nn.kernels.static.Static`."""
    module, name = getattr(entry, "__module__", None), getattr(entry, "__qualname__", None)
    return f"{module}.{name}" if module and name else repr(entry)
