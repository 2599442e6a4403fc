"""The part of a space of one's own class that the static-only control searches."""

from functools import partial
from typing import ClassVar

import dynnas as dn
from dynnas.study.static_part import static_part


class Net:
    """A class that says with which values nothing depends on the input."""

    static_values: ClassVar = {"op": "static", "leaves": False}

    def __init__(self, width, op="static", leaves=False):
        pass


def test_a_class_states_its_static_values():
    choices = {"width": [8, 16], "op": ["static", "condconv"]}
    for space in (
        dn.Space.of(Net, **choices, leaves=[False, True]),
        dn.Space.of(Net, **choices),  # the other argument is left at its default
        dn.Space.of(partial(Net, leaves=False), **choices),
    ):
        static = static_part(space)
        assert static is not None
        assert static.size == 2
        assert {gene.name: gene.values for gene in static.genes}["op"] == ("static",)


def test_without_static_networks_there_is_no_such_part():
    assert static_part(dn.Space.of(Net, width=[8], op=["condconv", "dyconv"])) is None
    assert static_part(dn.Space.of(partial(Net, leaves=True), op=["static", "dyconv"], width=8)) is None
    assert static_part(dn.Space.of(Net, width=[8, 16])) is None  # nothing of it is dynamic
    assert static_part(dn.Space.of(lambda width: width, width=[8, 16])) is None
