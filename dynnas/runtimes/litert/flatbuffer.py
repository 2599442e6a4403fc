"""Models of LiteRT as they are written: subgraphs of tensors and operators in one flatbuffer.

Imports ai_edge_litert: import this module only where that is installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

ALIGNMENT = 16
"""The bytes that the data of a tensor are aligned to."""

INT8 = np.dtype("int8")

_TYPES = {
    INT8: schema.TensorType.INT8,
    np.dtype("float32"): schema.TensorType.FLOAT32,
    np.dtype("int32"): schema.TensorType.INT32,
    np.dtype("bool"): schema.TensorType.BOOL,
}

_VERSIONS = {"BROADCAST_TO": 2}
"""The versions of operators that have no first one."""


def known(array: np.ndarray) -> np.ndarray:
    """Return a constant in one of the types that tensors have here: float32, int32, int8 or bool."""
    if array.dtype in _TYPES:
        return array
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    limits = np.iinfo(np.int32)
    return array.clip(limits.min, limits.max).astype(np.int32)


@dataclass(frozen=True)
class Scale:
    """The numbers that whole ones stand for: `scales * (whole - zero)`.

    Attributes:
        scales: one, or one for each place of an axis. zero: the whole number that stands for 0.
        axis: that axis.
    """

    scales: tuple[float, ...]
    zero: int = 0
    axis: int = 0


class Options:
    """The settings of an operator.

    Args:
        kind: the name of their table in the schema, such as `Conv2DOptions`.
        fields: as the schema names them.
    """

    def __init__(self, kind: str, **fields: Any) -> None:
        self.type = getattr(schema.BuiltinOptions, kind)
        self.table = getattr(schema, f"{kind}T")()
        for name, value in fields.items():
            assert hasattr(self.table, name), f"{kind} has no {name}"
            setattr(self.table, name, value)


@dataclass
class _Operator:
    code: str
    inputs: list[int]
    outputs: list[int]
    options: Options | None


@dataclass
class Subgraph:
    """A list of operators over tensors, which are known by their number.

    Attributes:
        name: unique in the model. number: its place there.
        inputs, outputs: numbers of tensors.
        names: of tensors that are known by one.
    """

    model: Model
    name: str
    number: int
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    _tensors: list[tuple[tuple[int, ...], np.dtype, int, Scale | None]] = field(default_factory=list)
    _operators: list[_Operator] = field(default_factory=list)
    _constants: dict[tuple[int, tuple[int, ...], np.dtype, Scale | None], int] = field(default_factory=dict)

    def tensor(
        self, shape: Sequence[int], dtype: np.dtype, buffer: int = 0, scale: Scale | None = None
    ) -> int:
        """Add a tensor, of the operator that makes it or with the content of a buffer."""
        self._tensors.append((tuple(shape), dtype, buffer, scale))
        return len(self._tensors) - 1

    def constant(self, array: np.ndarray, scale: Scale | None = None) -> int:
        """Return the tensor of a constant, which is added once."""
        array = known(array)
        buffer = self.model.buffer(array)
        key = buffer, array.shape, array.dtype, scale
        if key not in self._constants:
            self._constants[key] = self.tensor(array.shape, array.dtype, buffer, scale)
        return self._constants[key]

    def operator(
        self, code: str, inputs: Sequence[int], outputs: Sequence[int], options: Options | None = None
    ) -> None:
        """Add an operator, behind all others.

        Args:
            code: as the schema spells it, such as `CONV_2D`.
            inputs: tensors; -1 for one that is left out.
            outputs: tensors.
            options: the settings.
        """
        self._operators.append(_Operator(code, list(inputs), list(outputs), options))

    def used(self) -> list[_Operator]:
        """Return the operators without those whose outputs nobody reads."""
        needed, kept = {*self.outputs}, list[_Operator]()
        for operator in reversed(self._operators):
            if needed.intersection(operator.outputs):
                needed.update(operator.inputs)
                kept.append(operator)
        return kept[::-1]

    def table(self, buffers: dict[int, int]) -> Any:
        """Return the subgraph as the schema has it.

        Args:
            buffers: the numbers in the file of buffers that are used; more are added.
        """
        operators = self.used()
        lists = (self.inputs, self.outputs, *(each.inputs + each.outputs for each in operators))
        kept = sorted({tensor for each in lists for tensor in each if tensor >= 0})
        number = {tensor: place for place, tensor in enumerate(kept)} | {-1: -1}
        made = schema.SubGraphT()
        made.name = self.name
        made.tensors = [self._tensor_table(tensor, buffers) for tensor in kept]
        made.inputs = [number[tensor] for tensor in self.inputs]
        made.outputs = [number[tensor] for tensor in self.outputs]
        made.operators = []
        for operator in operators:
            table = schema.OperatorT()
            table.opcodeIndex = self.model.code(operator.code)
            table.inputs = [number[tensor] for tensor in operator.inputs]
            table.outputs = [number[tensor] for tensor in operator.outputs]
            if operator.options is not None:
                table.builtinOptionsType = operator.options.type
                table.builtinOptions = operator.options.table
            made.operators.append(table)
        return made

    def _tensor_table(self, tensor: int, buffers: dict[int, int]) -> Any:
        shape, dtype, buffer, scale = self._tensors[tensor]
        made = schema.TensorT()
        made.shape, made.type, made.name = (
            list(shape),
            _TYPES[dtype],
            self.names.get(tensor, f"{self.name}/{tensor}"),
        )
        made.buffer = 0 if buffer == 0 else buffers.setdefault(buffer, len(buffers) + 1)
        made.hasRank = True
        if scale is not None:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale = np.array(scale.scales, np.float32)
            made.quantization.zeroPoint = np.full(len(scale.scales), scale.zero, np.int64)
            made.quantization.quantizedDimension = scale.axis
        return made


class Model:
    """A model of subgraphs, the first of them the one that is called."""

    def __init__(self) -> None:
        self.subgraphs: list[Subgraph] = []
        self._contents: list[bytes] = [b""]
        self._buffers: dict[bytes, int] = {}
        self._codes: dict[str, int] = {}

    def subgraph(self, name: str) -> Subgraph:
        """Add a subgraph."""
        self.subgraphs.append(Subgraph(self, f"{name}{len(self.subgraphs) or ''}", len(self.subgraphs)))
        return self.subgraphs[-1]

    def buffer(self, array: np.ndarray) -> int:
        """Return the buffer with these numbers, which all subgraphs share."""
        content = np.ascontiguousarray(array).tobytes()
        if content not in self._buffers:
            self._buffers[content] = len(self._contents)
            self._contents.append(content)
        return self._buffers[content]

    def code(self, name: str) -> int:
        """Return the number of a kind of operator."""
        return self._codes.setdefault(name, len(self._codes))

    def to_bytes(self, metadata: Mapping[str, str]) -> bytes:
        """Return the file, which keeps some texts by their names.

        The inputs and outputs of the first subgraph have names.
        """
        made, buffers = schema.ModelT(), dict[int, int]()
        made.version, made.description = 3, "A network that dynnas exported"
        made.subgraphs = [subgraph.table(buffers) for subgraph in self.subgraphs]
        contents = [b"", *(self._contents[buffer] for buffer in buffers)]
        made.operatorCodes = [_code_table(name) for name in self._codes]
        made.signatureDefs = [_signature(made.subgraphs[0])]
        made.metadata = []
        for name, text in metadata.items():
            entry = schema.MetadataT()
            entry.name, entry.buffer = name, len(contents)
            made.metadata.append(entry)
            contents.append(text.encode())
        made.buffers = [_Buffer(content) for content in contents]
        builder = flatbuffers.Builder(sum(map(len, contents)) + 65536)
        builder.Finish(made.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


class _Buffer(schema.BufferT):
    """A buffer whose data are aligned, which the generated code forgets."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.content = content

    def Pack(self, builder: Any) -> Any:  # noqa: N802  # the generated code's name
        if not self.content:
            return super().Pack(builder)
        builder.StartVector(1, len(self.content), ALIGNMENT)
        builder.head -= len(self.content)
        builder.Bytes[builder.head : builder.head + len(self.content)] = self.content
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


def _code_table(name: str) -> Any:
    made = schema.OperatorCodeT()
    made.builtinCode = getattr(schema.BuiltinOperator, name)
    made.deprecatedBuiltinCode = min(made.builtinCode, 127)
    made.version = _VERSIONS.get(name, 1)
    return made


def _signature(subgraph: Any) -> Any:
    made = schema.SignatureDefT()
    made.signatureKey, made.subgraphIndex = "serving_default", 0
    made.inputs = [_named(subgraph, tensor) for tensor in subgraph.inputs]
    made.outputs = [_named(subgraph, tensor) for tensor in subgraph.outputs]
    return made


def _named(subgraph: Any, tensor: int) -> Any:
    made = schema.TensorMapT()
    made.name, made.tensorIndex = subgraph.tensors[tensor].name, tensor
    return made
