"""Graphs cut where layers branch: each part is made ready for a runtime alone, then they are put together.

Imports onnx: import this module only where that is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onnx import ModelProto, NodeProto, ValueInfoProto, shape_inference
from onnx.helper import get_node_attr_value, make_graph, make_model, make_node

from dynnas.runtimes.onnx.assembly import Assembly, renamed
from dynnas.runtimes.onnx.gate_logits import subtract_votes
from dynnas.runtimes.onnx.gates import choose
from dynnas.runtimes.onnx.recording import DOMAIN, Call, branches_of
from dynnas.runtimes.onnx.trace import SIDE_OUTPUT_PREFIX

Pack = Callable[[ModelProto, bool, "bool | None"], "tuple[ModelProto, bool]"]
"""Makes a graph without branches ready for a runtime: as `packing.packing.pack_between`."""


def with_branches(
    traced: ModelProto, calls: Sequence[Call], pack: Pack, laid_out: bool = False, gives: bool | None = None
) -> tuple[ModelProto, bool]:
    """Put real branches in the place of the nodes that stand for layers.

    Args:
        traced: from `image`, and values beside it, to its outputs.
        calls: of the layers, by the number that their nodes have; more are added by layers inside of them.
        pack: is done with every graph that does not branch.
        laid_out: whether `image` comes laid out for the processor.
        gives: whether to lay the output `features` out; None for what is natural.

    Returns:
        The graph, and whether its `features` are laid out.
    """
    # A part that reads values beside the map alone has no input for that.
    laid_out = laid_out and any(value.name == "image" for value in traced.graph.input)
    if not any(node.domain == DOMAIN for node in traced.graph.node):
        return pack(traced, laid_out, gives)
    whole = Whole(traced)
    made = Assembly(traced)
    parts = split(whole)
    map_now = "image"
    for number, part in enumerate(parts):
        if not part.is_empty:
            wanted = gives if part.stand is None else None
            ready, laid_out = pack(part.model(whole), laid_out, wanted)
            handed = {SIDE_OUTPUT_PREFIX + name: name for name in part.gives}
            map_now = made.add(f"part{number}/", ready, map_now, part.inputs, handed, part.outputs)
        if part.stand is None:
            break
        call = calls[get_node_attr_value(part.stand, "index")]
        ends = parts[number + 1].stand is None and parts[number + 1].is_empty
        gate, laid_out = _gate(call, calls, pack, laid_out, gives if ends else None)
        takes = dict(zip([name for name, _ in call.takes], part.stand.input[1:], strict=True))
        outputs = [SIDE_OUTPUT_PREFIX + name for name, _ in call.gives]
        handed = dict(zip(outputs, part.stand.output[1:], strict=True))
        map_now = made.add(f"branches{number}/", gate, map_now, takes, handed)
    return made.model({parts[-1].image: map_now}), laid_out


def _gate(
    call: Call, calls: Sequence[Call], pack: Pack, laid_out: bool, gives: bool | None
) -> tuple[ModelProto, bool]:
    question, alternatives = branches_of(call)
    subtract_votes(question)
    makes_map = any(value.name == "features" for value in question.graph.output)
    decide, made = with_branches(question, calls, pack, laid_out, None if makes_map else False)
    laid_out = made if makes_map else laid_out
    *fewer, whole = alternatives
    last, given = with_branches(whole, calls, pack, laid_out, gives)
    others = [with_branches(each, calls, pack, laid_out, given)[0] for each in fewer]
    return choose(decide, [*others, last]), given


class Whole:
    """A traced graph, by the names of its values."""

    def __init__(self, traced: ModelProto) -> None:
        inferred = shape_inference.infer_shapes(traced, data_prop=True)
        graph = inferred.graph
        self.traced = traced
        self.nodes = [node for node in graph.node if node.op_type != "Constant"]
        self.constant_nodes = {node.output[0]: node for node in graph.node if node.op_type == "Constant"}
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.outputs = [value.name for value in graph.output]
        self.kinds = {value.name: value for value in (*graph.value_info, *graph.input, *graph.output)}
        self.maker = {name: number for number, node in enumerate(self.nodes) for name in node.output}

    def is_constant(self, name: str) -> bool:
        """Return whether a value depends on no input."""
        return name in self.constants or name in self.constant_nodes

    def needed_for(self, names: Sequence[str], made: set[int]) -> set[int]:
        """Return the numbers of the nodes that make these values, without those that are made."""
        found: set[int] = set()
        waiting = list(names)
        while waiting:
            number = self.maker.get(waiting.pop())
            if number is not None and number not in found and number not in made:
                found.add(number)
                waiting.extend(self.nodes[number].input)
        return found


@dataclass
class Part:
    """The nodes before one that stands for a layer, or behind the last of these.

    Attributes:
        nodes: in the order in which they run.
        stand: the node behind it; None for the last part.
        image: the map that comes in. features: the map that goes on; None for the last part.
        takes: other values that come in.
        gives: other values that go out: those that later parts need.
        outputs: of the whole graph, of the last part.
    """

    nodes: list[NodeProto]
    stand: NodeProto | None
    image: str
    features: str | None
    takes: list[str]
    gives: list[str]
    outputs: list[str]

    @property
    def made(self) -> set[str]:
        """The values that its nodes make."""
        return {name for node in self.nodes for name in node.output}

    @property
    def is_empty(self) -> bool:
        """True if nothing happens in it."""
        return not self.nodes and self.features in (None, self.image) and not self.gives

    @property
    def inputs(self) -> dict[str, str]:
        """The values beside the map that come in, by the names of its inputs."""
        return {f"own/{name}": name for name in self.takes}

    def model(self, whole: Whole) -> ModelProto:
        """Return it as a graph from `image` to `features`, or to the outputs of the whole graph."""
        made = self.made
        names = {name: f"own/{name}" for name in ("image", "features") if name not in self.outputs}
        names |= {name: own for own, name in self.inputs.items()} | {self.image: "image"}
        if self.features in made:
            names[self.features] = "features"

        def called(name: str) -> str:
            return names.get(name, name)

        nodes, ends = [], []
        for node in self.nodes:
            copied = NodeProto.FromString(node.SerializeToString())
            copied.input[:] = [called(name) for name in node.input]
            copied.output[:] = [called(name) for name in node.output]
            nodes.append(copied)
        if self.features is not None:
            ends.append(renamed(whole.kinds[self.features], "features"))
            if self.features not in made:
                nodes.append(make_node("Identity", [called(self.features)], ["features"]))
        for name in self.outputs:
            ends.append(renamed(whole.kinds[name], name))
            if name not in made and name not in whole.constant_nodes:
                nodes.append(make_node("Identity", [called(name)], [name]))
        for name in self.gives:
            ends.append(renamed(whole.kinds[name], SIDE_OUTPUT_PREFIX + name))
            nodes.append(make_node("Identity", [called(name)], [SIDE_OUTPUT_PREFIX + name]))
        return self._model(whole, nodes, ends, called)

    def _model(
        self,
        whole: Whole,
        nodes: list[NodeProto],
        ends: list[ValueInfoProto],
        called: Callable[[str], str],
    ) -> ModelProto:
        used = dict.fromkeys(name for node in nodes for name in node.input)
        used |= dict.fromkeys(self.outputs)  # what an exit says is a constant
        before = [whole.constant_nodes[name] for name in used if name in whole.constant_nodes]
        starts = [renamed(whole.kinds[self.image], "image")] if "image" in used else []
        starts += [renamed(whole.kinds[name], called(name)) for name in self.takes]
        tensors = [whole.constants[name] for name in used if name in whole.constants]
        graph = make_graph([*before, *nodes], "part", starts, ends, tensors)
        model = make_model(graph, opset_imports=whole.traced.opset_import)
        model.ir_version = whole.traced.ir_version
        return shape_inference.infer_shapes(model, data_prop=True)


def split(whole: Whole) -> list[Part]:
    """Return the parts between the nodes that stand for layers; the last one gives the outputs."""
    stands = [node for node in whole.nodes if node.domain == DOMAIN]
    made = {number for number, node in enumerate(whole.nodes) if node.domain == DOMAIN}
    image, parts = "image", []
    for stand in (*stands, None):
        own = whole.needed_for([*stand.input] if stand else whole.outputs, made)
        made |= own
        nodes = [whole.nodes[number] for number in sorted(own)]
        features, outputs = (stand.input[0], []) if stand else (None, whole.outputs)
        parts.append(Part(nodes, stand, image, features, [], [], outputs))
        image = stand.output[0] if stand else ""
    later: dict[str, None] = {}
    for part in reversed(parts):
        if part.stand is not None:
            handed = {*part.stand.output[1:]}
            later = {name: None for name in (*part.stand.input[1:], *later) if name not in handed}
        here = part.made
        reads = [name for node in part.nodes for name in node.input if name]
        reads += [name for name in (part.features, *part.outputs) if name is not None]
        part.gives = [name for name in later if name in here or name == part.image]
        beside = dict.fromkeys(
            name for name in reads if name not in here and name != part.image and not whole.is_constant(name)
        )
        part.takes = [*beside]
        later = {name: None for name in (*later, *beside) if name not in part.gives}
    return parts
