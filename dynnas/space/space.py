"""A design space: an ordered tuple of conditional choices, and the networks that they describe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Protocol, Self

from dynnas.errors import SpaceError, nearest
from dynnas.space.architecture import Architecture, Value
from dynnas.space.choices import argument_of, arguments_of, genes_of, identity_of, name_of
from dynnas.space.gene import OF_TARGET, Gene, count_architectures, of_network, prune


class NetworkRule(Protocol):
    """The rule that makes networks of architectures: a frozen dataclass, whose fields name it."""

    def __hash__(self) -> int: ...

    @property
    def channels(self) -> int | None:
        """Return the channels of the images; None where the data decides."""
        ...

    @property
    def classes(self) -> int | None:
        """Return the number of classes; None where the data decides."""
        ...

    def network_config(
        self, values: Mapping[str, Value], channels: int | None = None, classes: int | None = None
    ) -> Any:
        """Return the config of an architecture's network."""
        ...

    def covering_configs(
        self, genes: Sequence[Gene], channels: int, classes: int
    ) -> dict[str, tuple[Any, ...]]:
        """See `Space.covering_configs`."""
        ...


@dataclass(frozen=True)
class Space:
    """Everything that can be searched: parents stand before children, and single-valued knobs are genes too.

    `network` is what a space file says of its networks, `model` the class or function of `Space.of`; both are
    None for a plain space of `choices`.

    Raises:
        SpaceError: a gene without values, given twice, or with a condition on a gene that does not stand
        before it.
    """

    name: str
    genes: tuple[Gene, ...]
    network: NetworkRule | None = None
    model: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "genes", self._all_genes())
        known: set[str] = set()
        for gene in self.genes:
            if not gene.values or gene.name in known:
                raise SpaceError(f"{self.name}: gene {gene.name!r} has no values or is given twice")
            for parent, _ in gene.condition:
                if parent not in known:
                    raise SpaceError(
                        f"{self.name}: gene {gene.name!r} depends on {parent!r}, which must stand before it"
                    )
            known.add(gene.name)

    def _all_genes(self) -> tuple[Gene, ...]:
        """Return the genes; a subclass may have more than it is given."""
        return self.genes

    @cached_property
    def _by_name(self) -> Mapping[str, Gene]:
        return {gene.name: gene for gene in self.genes}

    @cached_property
    def choices(self) -> tuple[Gene, ...]:
        """The genes that leave something to choose."""
        return tuple(gene for gene in self.genes if not gene.fixed)

    @cached_property
    def size(self) -> int:
        """The exact number of distinct architectures."""
        return count_architectures(self.genes)

    @cached_property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that name genes and network."""
        template: object = asdict(self.network) if self.network else None  # type: ignore[call-overload]
        template = identity_of(self.model) if self.model else template
        text = json.dumps([[asdict(gene) for gene in self.genes], template], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @staticmethod
    def of(model: Callable[..., Any], choices: Mapping[str, Any] | None = None, /, **more: Any) -> Space:
        """Return the space of a class or function whose arguments are chosen.

        `Space.of(MyNet, depth=[2, 3], op=["static", "dyconv"], experts=when(op="dyconv", choose=[2, 4]))`.
        A list (or a range) is a choice, any other value is given to every network. Numbers are sorted; other
        values stand in the order of the list, that of the least capacity first. What is not named keeps its
        default, and so does an argument whose condition does not hold.

        Args:
            model: returns a network. It is called with the values by name, often, and must give
                the same network for the same values.
            choices: values by argument, for arguments whose names are taken here.
            more: values by argument: int, float, str, bool, None, or tuples of these.

        Raises:
            SpaceError: an argument that `model` does not have or misses, a value that cannot be chosen, or a
                network in place of its class.
        """
        return Space(name_of(model), genes_of(model, {**(choices or {}), **more}), model=model)

    def build(self, architecture: Mapping[str, Value]) -> Any:
        """Build the network of an architecture, for a space that `Space.of` made.

        Raises:
            SpaceError: the space has no function that makes a network, or one that failed; the message names
            the values.
        """
        if self.model is None:
            raise SpaceError(
                f"{self.name}: the space has no function that makes a network; "
                "make it with Space.of(MyNet, ...)"
            )
        try:
            return self.model(**self.arguments(architecture))
        except Exception as error:
            values = ", ".join(f"{name}={value!r}" for name, value in architecture.items())
            raise SpaceError(
                f"{self.name}({values}) failed: {type(error).__name__}: {error}; "
                "correct it or leave out these values"
            ) from error

    def of_data(self, shape: tuple[int, int, int], task: Any) -> Self:
        """Return the same space for images of `shape` (channels, height, width) and the outputs of a task.

        It is the space itself unless what makes its networks asks for them.
        """
        made = getattr(self.model, "of_data", None)
        return self if made is None else replace(self, model=made(shape, task))

    def image_shape(
        self, architecture: Mapping[str, Value], shape: tuple[int, int, int]
    ) -> tuple[int, int, int]:
        """Return (channels, height, width) of the images that a network takes.

        It is `shape`, that of the data, unless the function that makes networks says otherwise.
        """
        takes = getattr(self.model, "image_shape", None)
        return takes(architecture, shape) if takes is not None else shape

    def arguments(self, architecture: Mapping[str, Value]) -> dict[str, Any]:
        """Return the arguments that `build` gives: the values of the network, those of `each` as tuples."""
        return arguments_of(of_network(architecture))

    def gene(self, name: str) -> Gene:
        """Return the gene of that name.

        Raises:
            SpaceError: there is none.
        """
        if name not in self._by_name:
            raise SpaceError(f"{self.name}: there is no gene {name!r}{nearest(name, self._by_name)}")
        return self._by_name[name]

    def is_active(self, gene: Gene | str, values: Mapping[str, Value]) -> bool:
        """Return whether a gene applies, given the values of the active genes before it."""
        return (self.gene(gene) if isinstance(gene, str) else gene).is_active(values)

    def architecture(self, values: Mapping[str, Value]) -> Architecture:
        """Return the canonical architecture: without inactive genes, and with single-valued ones.

        How a network runs is its last value where it is not given: not quantised.

        Raises:
            SpaceError: an unknown gene, a value that is not allowed, or an active choice that is not given.
        """
        values = self._by_layer(values)
        for name in values:
            self.gene(name)
        active: dict[str, Value] = {}
        for gene in self.genes:
            if not gene.is_active(active):
                continue
            if gene.name not in values:
                if not gene.fixed and not gene.name.startswith(OF_TARGET):
                    raise SpaceError(
                        f"{self.name}: {gene.name} is not given; allowed: {_listed(gene.values)}"
                    )
                active[gene.name] = gene.values[-1]
                continue
            at = gene.find(values[gene.name])
            if at is None:
                raise SpaceError(
                    f"{self.name}: {gene.name} is {values[gene.name]!r}; allowed: {_listed(gene.values)}"
                )
            active[gene.name] = gene.values[at]
        return Architecture(tuple(active.items()))

    def _by_layer(self, values: Mapping[str, Value]) -> Mapping[str, Value]:
        """Return the values with those of `each`, where they are given as a tuple, one by one."""
        found: dict[str, Value] = {}
        for name, value in values.items():
            if (
                name not in self._by_name
                and f"{name}[0]" in self._by_name
                and isinstance(value, tuple | list)
            ):
                found |= {f"{name}[{layer}]": one for layer, one in enumerate(value)}
            else:
                found[name] = value
        return found

    def network_config(
        self, architecture: Architecture, channels: int | None = None, classes: int | None = None
    ) -> Any:
        """Return the network of an architecture.

        Input channels and classes default to the file's, then to 3 and 10.

        Raises:
            SpaceError: this is a space of plain `choices`.
        """
        return _network_config(self._template(), architecture, channels, classes)

    def covering_configs(self, channels: int, classes: int) -> dict[str, tuple[Any, ...]]:
        """Return for each slot that any architecture has configs that together cover the weights it can need.

        Every number (width, kernel, expand, experts, ...) is the largest that the slot can have; there is
        one config for each possible combination of the rest (block, op, attention, activation), and for each
        of block and gate. A block that has other weights where it changes the shape is there with more
        widths.

        Raises:
            SpaceError: this is a space of plain `choices`.
        """
        return self._template().covering_configs(self.genes, channels, classes)

    def _template(self) -> NetworkRule:
        if self.network is None:
            raise SpaceError(f"{self.name}: a space of plain `choices` describes no network")
        return self.network

    def restrict(self, values: Mapping[str, Sequence[Value]]) -> Self:
        """Return the same space with fewer values.

        A key is a gene (`exits.at`), a knob (`op` stands for every gene whose name ends in `.op`), or an
        argument of `each` (`kernel` stands for `kernel[0]`, `kernel[1]` and so on). Genes keep those of their
        values that are listed, in their own order.

        Raises:
            SpaceError: a key that names nothing, or a gene that would be left without a value.
        """
        allowed: dict[str, Sequence[Value]] = {}
        for key, listed in values.items():
            names = [
                name
                for name in self._by_name
                if key not in self._by_name and (name.endswith(f".{key}") or argument_of(name) == key)
            ]
            allowed |= dict.fromkeys(names or [self.gene(key).name], listed)
        genes = []
        for gene in self.genes:
            kept = tuple(value for value in gene.values if value in allowed.get(gene.name, gene.values))
            if not kept:
                raise SpaceError(
                    f"{self.name}: {gene.name} cannot be restricted to {_listed(allowed[gene.name])}; "
                    f"it has {_listed(gene.values)}"
                )
            genes.append(replace(gene, values=kept))
        left = prune(genes)
        made = getattr(self.model, "with_genes", None)
        return replace(self, genes=left, model=self.model if made is None else made(left))


def _listed(values: Sequence[Value]) -> str:
    return ", ".join(map(str, values))


@lru_cache(maxsize=256)
def _network_config(
    rule: NetworkRule, architecture: Architecture, channels: int | None, classes: int | None
) -> Any:
    """Return a network's config, which is a value; a training step asks for it several times."""
    return rule.network_config(architecture, channels, classes)
