"""An ONNX graph from the bytes of a picture to an answer: all that is done before and behind it is inside."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from dynnas.data.dataset import Dataset
from dynnas.errors import ExportError, require
from dynnas.export.timing import time_artifact
from dynnas.metrics.artifact import LEAST_AGREEMENT
from dynnas.tasks.task import Task

if TYPE_CHECKING:
    from types import ModuleType

    from onnx import ModelProto

FILE = "model_pictures.onnx"
INPUT, OUTPUT = "pixels", "answer"

ANSWERS = {
    "classification": "probability of each class",
    "multi_label": "probability of each label",
    "regression": "the numbers, in the targets' units",
    "segmentation": "class of each pixel (1, height, width), uint8",
    "detection": "boxes (1, D, 6): x1, y1, x2, y2 in pixels, score, class; those of score 0 are none",
}

_TYPES = {255.0: np.uint8, 65535.0: np.uint16}
"""Types of pixels by the number that stands for white; data of floats have no such graph."""


@dataclass(frozen=True)
class Pictures:
    """The facts of the graph that a manifest holds.

    Attributes:
        file: its name in the bundle.
        input: name, shape and type of the pictures. output: name and meaning of the answer.
        images: that were compared with torch. agreement: share of these with the same answer.
        timing: of single pictures.
    """

    file: str
    input: dict[str, Any]
    output: dict[str, str]
    images: int
    agreement: float
    timing: dict[str, float]


def takes_pictures(dataset: Dataset) -> bool:
    """Return whether the data are pictures of 8 or 16 bits, for which the graph can be made."""
    return dataset.scale in _TYPES


def pictures_graph(model: ModelProto, dataset: Dataset, size: tuple[int, int]) -> ModelProto:
    """Return a graph from pictures (1, H, W, C) as bytes, of the data's size, to the task's answer.

    Normalisation, layout and resizing come before `model`, which takes `image` and gives `logits`, and what
    the task makes of these behind it. An output `exit` stays.

    Args:
        model: for one image. dataset: of its training. size: height and width of its images.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    onnx = require("onnx", "onnx")
    from onnx import compose

    made = onnx.ModelProto()
    made.CopyFrom(model)
    _prepend(made, dataset, size)
    answer = _answer_graph(dataset.task, made, dataset.size)
    answer.ir_version = made.ir_version
    kept = [each.name for each in made.graph.output if each.name != "logits"]
    joined: ModelProto = compose.merge_models(
        made, answer, [("logits", "behind/logits")], outputs=[f"behind/{OUTPUT}", *kept]
    )
    for node in joined.graph.node:
        node.output[:] = [OUTPUT if name == f"behind/{OUTPUT}" else name for name in node.output]
    made_here = [each for each in joined.graph.output if each.name == f"behind/{OUTPUT}"]
    others = [each for each in joined.graph.output if each.name != f"behind/{OUTPUT}"]
    made_here[0].name = OUTPUT
    outputs = [*map(copy.deepcopy, (*made_here, *others))]
    del joined.graph.output[:]
    joined.graph.output.extend(outputs)
    return joined


def _prepend(model: ModelProto, dataset: Dataset, size: tuple[int, int]) -> None:
    """Put the preparation of pictures before a graph, in place."""
    from onnx import TensorProto, helper, numpy_helper

    from dynnas.export.standalone import weights  # needs onnxruntime, as the bundle does

    (height, width), channels = dataset.size, dataset.channels
    mean, std = (np.array(each, np.float64)[:, None, None] for each in (dataset.mean, dataset.std))
    values = {
        "factor": 1 / (dataset.scale * std),
        "shift": -mean / std,
        "rows": weights(height, size[0]),
        "columns": weights(width, size[1]).T,
    }
    steps: list[tuple[str, list[str], dict[str, Any]]] = [
        ("Cast", [INPUT], {"to": TensorProto.FLOAT}),
        ("Transpose", [], {"perm": [0, 3, 1, 2]}),
        ("Mul", ["before/factor"], {}),
        ("Add", ["before/shift"], {}),
    ]
    resized = size != dataset.size
    nodes, last = [], ""
    for kind, others, facts in steps:
        inputs = others if kind == "Cast" else [last, *others]
        last = "image" if kind == "Add" and not resized else f"before/{kind}"
        nodes.append(helper.make_node(kind, inputs, [last], name=f"before/{kind}", **facts))
    if resized:
        nodes.append(helper.make_node("MatMul", ["before/rows", last], ["before/lines"], name="before/rows"))
        nodes.append(
            helper.make_node("MatMul", ["before/lines", "before/columns"], ["image"], name="before/columns")
        )
    used = {name for node in nodes for name in node.input}
    pixel = helper.np_dtype_to_tensor_dtype(np.dtype(_TYPES[dataset.scale]))
    graph = model.graph
    graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(value, np.float32), f"before/{name}")
        for name, value in values.items()
        if f"before/{name}" in used
    )
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(INPUT, pixel, [1, height, width, channels]))


class _Answer(nn.Module):
    """The task's answer for an output (1, ...), with classes of pixels at the size of the data."""

    rows: Tensor
    columns: Tensor

    def __init__(self, task: Task, output: Tensor, size: tuple[int, int]) -> None:
        super().__init__()
        from dynnas.export.standalone import weights

        self.task = task
        self.enlarges = task.answers == "pixels" and output.ndim == 4
        if self.enlarges:
            height, width = output.shape[2:]
            self.register_buffer("rows", torch.from_numpy(weights(height, size[0])))
            self.register_buffer("columns", torch.from_numpy(weights(width, size[1]).T.copy()))

    def forward(self, output: Tensor) -> Tensor:
        if not self.enlarges:
            return self.task.post(output)
        found = self.task.post(self.rows @ output @ self.columns)
        return found if found.is_floating_point() else found.to(torch.uint8)


def _answer_graph(task: Task, model: ModelProto, size: tuple[int, int]) -> ModelProto:
    """Return the graph from `behind/logits` to `behind/answer`."""
    from onnx import compose

    from dynnas.runtimes.onnx.trace import trace

    output = torch.zeros(_output_shape(model))
    return compose.add_prefix(trace(_Answer(task, output, size), output, ["logits"], [OUTPUT]), "behind/")


def _output_shape(model: ModelProto) -> tuple[int, ...]:
    """Return the shape of the logits for one image."""
    onnxruntime = require("onnxruntime", "onnx")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), _one_thread(onnxruntime), providers=["CPUExecutionProvider"]
    )
    (given,) = session.get_inputs()
    kind = np.uint16 if "uint16" in given.type else np.uint8
    return tuple(session.run(["logits"], {INPUT: np.zeros(given.shape, kind)})[0].shape)


def _one_thread(onnxruntime: ModuleType) -> Any:
    """Return options of a session that starts no threads, and tells of errors alone."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return options


def check_pictures(data: bytes, dataset: Dataset, images: Tensor, expected: Tensor) -> Pictures:
    """Run the graph on pictures and compare its answers with the task's for `expected`.

    Args:
        data: the graph. dataset: of its training.
        images: (N, C, H, W) of the data, as they are held.
        expected: outputs (N, ...) of torch for these images.

    Raises:
        ExportError: it does not agree.
    """
    onnxruntime = require("onnxruntime", "onnx")
    session = onnxruntime.InferenceSession(data, _one_thread(onnxruntime), providers=["CPUExecutionProvider"])
    kind = _TYPES[dataset.scale]
    pixels = images.permute(0, 2, 3, 1).contiguous().numpy().astype(kind)

    def predict(images: np.ndarray) -> tuple[np.ndarray, None]:
        return session.run([OUTPUT], {INPUT: images})[0], None

    found = torch.from_numpy(np.concatenate([predict(pixels[at : at + 1])[0] for at in range(len(pixels))]))
    wanted = _Answer(dataset.task, expected, dataset.size)(expected)
    same = _same(dataset.task, found, wanted)
    if same < LEAST_AGREEMENT:
        raise ExportError(
            f"{FILE} does not agree with the network: the same answer for {same:.1%} of {len(found)} images; "
            "nothing was kept, try another format"
        )
    shape = list(pixels.shape[1:])
    return Pictures(
        FILE,
        {"name": INPUT, "shape": [1, *shape], "type": np.dtype(kind).name},
        {"name": OUTPUT, "meaning": ANSWERS.get(dataset.task.name, "what the task makes of an output")},
        len(found),
        same,
        asdict(time_artifact(predict, pixels)),
    )


def _same(task: Task, found: Tensor, wanted: Tensor) -> float:
    """Return the share of answers, or of pixels, that are equal up to rounding."""
    if not wanted.is_floating_point():
        return float((found == wanted).double().mean())
    if task.answers == "boxes":
        return float(task.agrees(found, wanted).double().mean())
    return float(torch.isclose(found, wanted, rtol=1e-3, atol=1e-3).flatten(1).all(1).double().mean())
