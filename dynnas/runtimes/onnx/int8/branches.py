"""Graphs in int8 with branches: every part gets its ranges from the images that run it.

Imports onnx: import this module only where that is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from onnx import ModelProto
from onnx.helper import get_node_attr_value

from dynnas.errors import require
from dynnas.runtimes.onnx.assembly import Assembly
from dynnas.runtimes.onnx.gate_logits import subtract_votes
from dynnas.runtimes.onnx.gates import choose
from dynnas.runtimes.onnx.recording import DOMAIN, Call, branches_of
from dynnas.runtimes.onnx.segment import no_packing
from dynnas.runtimes.onnx.splitting import Part, Whole, split, with_branches
from dynnas.runtimes.onnx.trace import SIDE_OUTPUT_PREFIX

Values = Mapping[str, Sequence[np.ndarray]]
"""The values of some images by name: for each image an array with a batch of 1."""

Quantise = Callable[[ModelProto, Values], ModelProto]
"""Makes a graph without branches one in int8, with ranges from the values of its inputs."""


def int8_with_branches(
    traced: ModelProto, calls: Sequence[Call], inputs: Values, quantise: Quantise
) -> tuple[ModelProto, Values]:
    """Put real branches in the place of the nodes that stand for layers, all but what decides in int8.

    Args:
        traced: from `image`, and values beside it, to its outputs.
        calls: of the layers, by the number that their nodes have; more are added by layers inside of them.
        inputs: of the images that set the ranges.
        quantise: is done with every graph that does not branch.

    Returns:
        The graph, and its outputs for these images in float32.
    """
    if not any(node.domain == DOMAIN for node in traced.graph.node):
        return quantise(traced, inputs), run_graph(traced, inputs)
    whole = Whole(traced)
    made = Assembly(traced)
    known: dict[str, Sequence[np.ndarray]] = dict(inputs)
    parts = split(whole)
    map_now = "image"
    for number, part in enumerate(parts):
        if not part.is_empty:
            model = part.model(whole)
            feeds = _feeds(part, known)
            outputs_of = run_graph(model, feeds)
            handed = {SIDE_OUTPUT_PREFIX + name: name for name in part.gives}
            known |= {name: outputs_of[output] for output, name in handed.items()}
            known |= {name: outputs_of[name] for name in part.outputs}
            if part.features is not None:
                known[part.features] = outputs_of["features"]
            ready = quantise(model, feeds)
            map_now = made.add(f"part{number}/", ready, map_now, part.inputs, handed, part.outputs)
        if part.stand is None:
            break
        call = calls[get_node_attr_value(part.stand, "index")]
        takes = dict(zip([name for name, _ in call.takes], part.stand.input[1:], strict=True))
        feeds = {"image": known[part.stand.input[0]], **{own: known[name] for own, name in takes.items()}}
        gate, found = _gate(call, calls, feeds, quantise)
        outputs = [SIDE_OUTPUT_PREFIX + name for name, _ in call.gives]
        handed = dict(zip(outputs, part.stand.output[1:], strict=True))
        known |= {name: found[output] for output, name in handed.items()}
        known[part.stand.output[0]] = found["features"]
        map_now = made.add(f"branches{number}/", gate, map_now, takes, handed)
    ends = {value.name: known[value.name] for value in traced.graph.output if value.name in known}
    return made.model({parts[-1].image: map_now}), ends


def _feeds(part: Part, known: Values) -> Values:
    return {"image": known[part.image], **{own: known[name] for own, name in part.inputs.items()}}


def _gate(call: Call, calls: Sequence[Call], inputs: Values, quantise: Quantise) -> tuple[ModelProto, Values]:
    """Return the graph of a layer that branches, and what it gives for the images."""
    question, alternatives = branches_of(call)
    subtract_votes(question)
    decide, _ = with_branches(question, calls, no_packing)
    told = run_graph(decide, inputs)
    logits = [name for name in told if name.startswith("logit")]
    votes = np.stack([[float(vote.squeeze()) for vote in told[name]] for name in logits])
    chosen = votes.argmax(axis=0)
    handed = {name: values for name, values in told.items() if name not in logits}
    feeds = {**inputs, **{_taken_as(name): values for name, values in handed.items()}}
    found: dict[str, list[np.ndarray]] = {}
    graphs = []
    for index, alternative in enumerate(alternatives):
        rows = np.flatnonzero(chosen == index)
        of_all = rows if len(rows) else np.arange(len(chosen))
        own = {name: [values[int(row)] for row in of_all] for name, values in feeds.items()}
        graph, outputs = int8_with_branches(alternative, calls, own, quantise)
        graphs.append(graph)
        for name, values in outputs.items():
            kept = found.setdefault(name, [np.empty(0)] * len(chosen))
            for row, value in zip(rows, values, strict=False):
                kept[row] = value
    given = {name: values for name, values in handed.items() if name != "features"}
    return choose(decide, graphs), {**given, **found}


def _taken_as(name: str) -> str:
    return "image" if name == "features" else name.removeprefix(SIDE_OUTPUT_PREFIX)


def run_graph(model: ModelProto, inputs: Values) -> dict[str, list[np.ndarray]]:
    """Run a graph in float32 on images one by one; inputs that it does not have are left out.

    Raises:
        MissingExtraError: onnxruntime is not installed.
    """
    ort = require("onnxruntime", "onnx")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    takes = [value.name for value in session.get_inputs()]
    names = [value.name for value in session.get_outputs()]
    count = len(next(iter(inputs.values())))
    rows = [session.run(names, {name: inputs[name][row] for name in takes}) for row in range(count)]
    return {name: [row[at] for row in rows] for at, name in enumerate(names)}
