"""A design space as tables: the choices by place, and the sizes of its networks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from random import Random

from dynnas.nn.networks.backbone_networks import BackboneNetworks
from dynnas.nn.networks.cost import Cost, cost
from dynnas.report.tables.table import Column, Table, count
from dynnas.runtimes.cost import cost_of
from dynnas.runtimes.plain import PlainNetwork
from dynnas.space.architecture import Architecture, Value
from dynnas.space.gene import Gene
from dynnas.space.moves import largest, sample, smallest
from dynnas.space.space import Space

# Networks whose middle one (by MACs) stands for the typical one.
_SAMPLED = 15


def genes_table(space: Space) -> Table:
    """Return one row for each part: its choices, and its fixed values. Layers that are alike share a row."""
    parts: dict[str, list[Gene]] = {}
    for gene in space.genes:
        parts.setdefault(_part(gene), []).append(gene)
    rows = tuple((_name(names), *cells) for names, cells in _merged(parts))
    columns = (Column("part"), Column("choices"), Column("fixed"))
    return Table(f"{space.name}: {size_text(space.size)} architectures", columns, rows)


def size_text(size: int) -> str:
    """Return an exact count where it can be read, else its magnitude."""
    return f"{size:,}" if size < 10**15 else f"{size:.2e}"


def costs_table(space: Space, seed: int = 0) -> Table:
    """Return the smallest, the median and the largest network: resolution, layers, MACs and parameters.

    The median is by MACs, over a small random sample drawn with `seed`; the smallest and largest take the
    first and the last value of every gene.
    """
    random = Random(seed)
    drawn = [sample(space, random) for _ in range(_SAMPLED)]
    sampled = sorted(((network, _cost(space, network)) for network in drawn), key=lambda pair: pair[1].macs)
    first, last = smallest(space), largest(space)
    named = {
        "smallest": (first, _cost(space, first)),
        f"median of {_SAMPLED} random": sampled[_SAMPLED // 2],
        "largest": (last, _cost(space, last)),
    }
    columns = (
        Column("network"),
        Column("resolution", numeric=True),
        Column("layers", numeric=True),
        Column("MACs", numeric=True),
        Column("parameters", numeric=True),
    )
    rows = tuple(
        (name, *_shape(space, network), count(size.macs), count(size.params))
        for name, (network, size) in named.items()
    )
    return Table("networks for one image", columns, rows)


def _cost(space: Space, architecture: Architecture) -> Cost:
    if not isinstance(space.model, BackboneNetworks):
        return cost(space.network_config(architecture))
    config = space.model.config(architecture)
    network = PlainNetwork(space.build(architecture).eval(), (config.channels, *config.size))
    return cost_of(network)


def _shape(space: Space, architecture: Architecture) -> tuple[str, str]:
    """Return the resolution of a network in words, and its number of blocks."""
    if isinstance(space.model, BackboneNetworks):
        own = space.model.config(architecture)
        return _word(own.size), str(len(own.blocks))
    config = space.network_config(architecture)
    return config.sizes, str(len(config.blocks))


def _part(gene: Gene) -> str:
    """Return the part of a gene's name, `stage1.0` of `stage1.0.kernel`.

    The resolution belongs to the input.
    """
    owner = gene.name.rpartition(".")[0] or gene.name
    return "input" if owner == "resolution" else owner


def _values(genes: Iterable[Gene]) -> tuple[str, str]:
    """Return the choices and the fixed values of one part."""
    choices: list[str] = []
    fixed: list[str] = []
    for gene in genes:
        knob = gene.name.rpartition(".")[2]
        (fixed if gene.fixed else choices).append(f"{knob} {_spelled(gene)}")
    return ", ".join(choices), ", ".join(fixed)


def _spelled(gene: Gene) -> str:
    """Spell values as `16 24 32`, or `8..64 step 8` for many evenly spaced numbers."""
    numbers = [value for value in gene.values if isinstance(value, int | float)]
    steps = {round(b - a, 9) for a, b in pairwise(numbers)}
    if len(numbers) > 4 and len(steps) == 1:
        return f"{numbers[0]:g}..{numbers[-1]:g} step {steps.pop():g}"
    return " ".join(map(_word, gene.values))


def _word(value: Value) -> str:
    if isinstance(value, tuple):
        return " x ".join(map(_word, value))
    return value if isinstance(value, str) else f"{value:g}"


def _merged(parts: Mapping[str, Sequence[Gene]]) -> Iterator[tuple[list[str], tuple[str, str]]]:
    """Merge neighbouring parts of one stage with the same cells."""
    cells = {name: _values(genes) for name, genes in parts.items()}
    for (_, shared), run in groupby(cells, key=lambda name: (name.partition(".")[0], cells[name])):
        yield list(run), shared


def _name(parts: Sequence[str]) -> str:
    """Return `stage1.0 to stage1.2` for several parts."""
    return parts[0] if len(parts) == 1 else f"{parts[0]} to {parts[-1]}"
