"""Numbers that a program gives to torch as sizes: those that modules keep, and those read of a shape."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, NamedTuple

from torch import Tensor, nn

from dynnas.supernet.conversion.coupling.channels import Channels

ONCE = Fraction(1)


class Attribute(NamedTuple):
    """Place where a module keeps a number: its name, the attribute, and the place in it if it is a list."""

    module: str
    name: str
    place: int | None = None


class _Known(int):
    """A number that knows where it comes from."""

    def __reduce__(self) -> Any:
        """Copy as a plain number."""
        return int, (int(self),)

    def __deepcopy__(self, memo: Any) -> int:
        """Copy as a plain number."""
        return int(self)


class Size(_Known):
    """A number that knows where it is kept; a multiple and a whole part of it know that too.

    Attributes:
        attribute: where. factor: by how many times what is kept there it is.
    """

    attribute: Attribute
    factor: Fraction

    def __new__(cls, value: int, attribute: Attribute, factor: Fraction = ONCE) -> Size:
        """Make a number that is `factor` times what is kept at `attribute`."""
        made = super().__new__(cls, value)
        made.attribute, made.factor = attribute, factor
        return made

    def __mul__(self, other: Any) -> Any:
        """Multiply; a multiple by a plain number is one of the same attribute."""
        product = int(self) * other
        plain = type(other) is int and other > 0
        return Size(product, self.attribute, self.factor * other) if plain else product

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Any:
        """Divide; a whole part is one of the same attribute, for what divides it stays as it is."""
        quotient = int(self) // other
        whole = isinstance(other, int) and not isinstance(other, Count) and int(self) % other == 0
        return Size(quotient, self.attribute, self.factor / int(other)) if whole else quotient

    def __sub__(self, other: Any) -> Any:
        """Subtract; what one of its parts leaves of a number knows the number."""
        less = int(self) - other
        return Rest(less, self) if isinstance(other, Size) and less > 0 else less


class Rest(_Known):
    """The rest of a number that is kept, when another one is taken from it.

    Attributes:
        whole: the number.
    """

    whole: Size

    def __new__(cls, value: int, whole: Size) -> Rest:
        """Make the rest of a number."""
        made = super().__new__(cls, value)
        made.whole = whole
        return made


class Count(_Known):
    """A size that was read of a tensor's shape, or a whole part of one; it knows which channels it counts.

    Attributes:
        channels: what is counted. parts: by how many the number was divided.
    """

    channels: Channels
    parts: int

    def __new__(cls, value: int, channels: Channels, parts: int = 1) -> Count:
        """Make the number of these channels, divided by `parts`."""
        made = super().__new__(cls, value)
        made.channels, made.parts = channels, parts
        return made

    def __floordiv__(self, other: Any) -> Any:
        """Divide; a whole part of a number of channels, such as the width of a head, knows them too."""
        quotient = int(self) // other
        whole = isinstance(other, int) and not isinstance(other, Count) and int(self) % other == 0
        return Count(quotient, self.channels, self.parts * int(other)) if whole else quotient


def attributes_in(arguments: Any) -> tuple[Any, ...]:
    """Return the numbers among arguments in their order, if any of them knows where it comes from."""
    found: list[Any] = []
    known = False

    def walk(value: Any) -> None:
        nonlocal known
        if isinstance(value, _Known):
            known = True
        if isinstance(value, int):
            found.append(value)
        elif isinstance(value, tuple | list):
            for each in value:
                walk(each)
        elif isinstance(value, dict):
            for each in value.values():
                walk(each)
        elif isinstance(value, slice):
            walk((value.start, value.stop))

    if not isinstance(arguments, Tensor):
        walk(arguments)
    return tuple(found) if known else ()


@contextmanager
def sizes_known(network: nn.Module) -> Iterator[None]:
    """Make the whole numbers that the modules of `network` keep say where they are kept.

    Those of torch's own layers stay: what they count is known from the layer.
    """
    changed: list[tuple[dict[str, Any], str, Any]] = []
    for path, module in network.named_modules():
        if type(module).__module__.startswith("torch.nn"):
            continue
        for name, value in vars(module).items():
            if name == "training" or name.startswith("_"):
                continue
            known = _known(value, path, name)
            if known is not value:
                changed.append((vars(module), name, value))
                vars(module)[name] = known
    try:
        yield
    finally:
        for held, name, value in changed:
            held[name] = value


def _known(value: Any, path: str, name: str) -> Any:
    if type(value) is int and value > 1:
        return Size(value, Attribute(path, name))
    if type(value) in (list, tuple) and value and all(type(each) is int for each in value):
        return type(value)(Size(each, Attribute(path, name, place)) for place, each in enumerate(value))
    return value
