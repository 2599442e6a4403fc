"""The `Context` in which dynamic layers run one call, and the `Trace` of what they record in it.

A layer that can run in several ways is a `Contextual` and takes the keyword argument `context`. Without one
it uses its own, which is `PLAIN`: `module(x)` gives the ordinary result. The context holds a frozen *mode*
for each kind of layer (`GateMode`, `RouterMode`, `ConvMode`, or a class of your own) and perhaps a trace, in
which layers record what they decided.

A layer may lie deep inside a module whose `forward` knows nothing of contexts. So a caller supplies one to
all layers of a module at once: `supplied` registers torch's forward pre-hooks, which add the argument, for
the time of a call and removes them. No layer keeps anything of the call. `with_context` makes a copy with
another context of its own, for what is compiled or exported.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any, ClassVar, TypeVar

from torch import nn

M = TypeVar("M")
N = TypeVar("N", bound=nn.Module)


class Trace:
    """The values that layers recorded during the calls that it was supplied to, in order."""

    def __init__(self, *kinds: type) -> None:
        """Create an empty trace of values of these classes, or of all of them if there is none."""
        self._kinds = frozenset(kinds)
        self._records: dict[type, list[Any]] = {}

    def wants(self, kind: type) -> bool:
        """Tell whether values of this class are kept: what is costly need not be made otherwise."""
        return not self._kinds or kind in self._kinds

    def record(self, value: object) -> None:
        """Add a value, under its class."""
        if self.wants(type(value)):
            self._records.setdefault(type(value), []).append(value)

    def of(self, kind: type[M]) -> list[M]:
        """Return all values of a class so far; the list goes on growing with the trace."""
        return self._records.setdefault(kind, [])


class Context:
    """The modes in which layers run, one of each class, and the trace in which they record.

    It is a value: `replace` makes another.
    """

    __slots__ = ("_modes", "trace")

    def __init__(self, *modes: object, trace: Trace | None = None) -> None:
        """Create a context of `modes`; a class without a given mode has its default, `kind()`."""
        self._modes: Mapping[type, Any] = {type(mode): mode for mode in modes}
        self.trace = trace

    def __getitem__(self, kind: type[M]) -> M:
        """Return the mode of a class."""
        mode: M | None = self._modes.get(kind)
        return kind() if mode is None else mode

    def __deepcopy__(self, memo: dict[int, Any]) -> Context:
        """Return the same context: it is a value."""
        return self

    def __repr__(self) -> str:
        """Spell the modes that are set."""
        modes = ", ".join(map(repr, self._modes.values()))
        return f"Context({modes})" if self.trace is None else f"Context({modes}, traced)"

    def replace(self, *modes: object) -> Context:
        """Return a context with these modes in place of those of their classes, and the same trace."""
        return Context(*{**self._modes, **{type(mode): mode for mode in modes}}.values(), trace=self.trace)

    def traced(self, trace: Trace | None) -> Context:
        """Return a context with the same modes and another trace."""
        return Context(*self._modes.values(), trace=trace)


PLAIN = Context()
"""The context of ordinary code."""


class Contextual(nn.Module):
    """A layer whose `forward` takes the keyword argument `context`.

    Attributes:
        reads_context: whether its `forward` has the argument; a class may leave it out, and gets none.
        context: what it uses where its caller gives none.
    """

    reads_context: ClassVar[bool] = False
    context: Context = PLAIN

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """See whether the class's `forward` has the argument."""
        super().__init_subclass__(**kwargs)
        cls.reads_context = "context" in inspect.signature(cls.forward).parameters


def layers_of(module: nn.Module) -> tuple[Contextual, ...]:
    """Return the layers of `module` that read a context."""
    return tuple(each for each in module.modules() if isinstance(each, Contextual) and each.reads_context)


@contextmanager
def supplied(module: nn.Module | Sequence[Contextual], context: Context) -> Iterator[None]:
    """Supply `context` to all layers inside `module` while the caller calls it.

    A context that a layer is given by its own caller comes first, and of nested uses the inner one. A module
    is called by one thread at a time.

    Args:
        module: holds the layers, at any depth; or the layers themselves, as `layers_of` gives them.
    """
    layers = layers_of(module) if isinstance(module, nn.Module) else module
    with _hooked((layer, context) for layer in layers):
        yield


@contextmanager
def _hooked(contexts: Iterable[tuple[Contextual, Context]]) -> Iterator[None]:
    handles = [
        layer.register_forward_pre_hook(partial(_add_context, context), prepend=True, with_kwargs=True)
        for layer, context in contexts
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _add_context(context: Context, layer: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
    return None if kwargs.get("context") is not None else (args, {**kwargs, "context": context})


@contextmanager
def tracing(module: nn.Module, *kinds: type) -> Iterator[Trace]:
    """Supply each layer inside `module` with its own context and a trace of `kinds`, and return the trace."""
    trace = Trace(*kinds)
    with _hooked((layer, layer.context.traced(trace)) for layer in layers_of(module)):
        yield trace


def with_context(module: N, context: Context) -> N:
    """Return a copy of `module` whose layers use `context` where their caller gives none.

    The copy shares all parameters and buffers with `module`.
    """
    tensors = chain(module.parameters(), module.buffers())
    copied = copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
    for layer in layers_of(copied):
        layer.context = context
    return copied
