"""Operators on whole numbers, spelled with DequantizeLinear and QuantizeLinear around the float operator.

ONNX defines QLinearConv and QLinearMatMul so. ONNX Runtime's own operators mean the same
(https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper
from onnx.inliner import inline_local_functions

from attn_export.exporter.graph.dialect import unify
from attn_export.exporter.records.arrays import Array, Arrays

# Attributes of the integer operators that the float operators lack; channels_last moves the axes.
OTHER_ATTRIBUTES = ("opset", "channels_last")


@dataclass(frozen=True)
class Form:
    """How an operator lists its inputs: each tensor is followed by its scale and its zero point.

    Attributes:
        operands: places of the tensors; empty for all from the third on.
        result: place of the result's scale.
        bias: place of an int32 bias, whose scale is the product of the first two.
        channels: axis of per-channel scales of the second tensor.
    """

    operator: str
    operands: tuple[int, ...]
    result: int
    bias: int | None = None
    channels: int = 0


FORMS = {
    "QLinearConv": Form("Conv", (0, 3), 6, bias=8),
    "QLinearMatMul": Form("MatMul", (0, 3), 6, channels=-1),
    "QGemm": Form("Gemm", (0, 3), 7, bias=6),
    "QLinearAdd": Form("Add", (0, 3), 6),
    "QLinearMul": Form("Mul", (0, 3), 6),
    "QLinearSigmoid": Form("Sigmoid", (0,), 3),
    "QLinearLeakyRelu": Form("LeakyRelu", (0,), 3),
    "QLinearSoftmax": Form("Softmax", (0,), 3),
    "QLinearAveragePool": Form("AveragePool", (0,), 3),
    "QLinearGlobalAveragePool": Form("GlobalAveragePool", (0,), 3),
    "QLinearConcat": Form("Concat", (), 0),
}


def load_in_pairs(path: Path) -> ModelProto:
    """Read an ONNX file, functions inlined, its operators on whole numbers as pairs around float operators.

    One with other scales than constants stays as it is.
    """
    model = onnx.load(path)
    if model.functions:
        model = inline_local_functions(model)
    unify(model)
    graph = model.graph
    if not any(node.op_type in FORMS for node in graph.node):
        return model
    constants = constants_of(graph)
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        parts = _Parts(node, constants) if node.op_type in FORMS else None
        if parts is None or not parts.is_known:
            graph.node.append(node)
            continue
        graph.node.extend(parts.nodes())
        graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in parts.added.items())
    used = {entry.domain for entry in model.opset_import}
    if "" not in used:
        model.opset_import.append(helper.make_opsetid("", 13))
    return model


def constants_of(graph: onnx.GraphProto) -> dict[str, Array]:
    """The arrays of initializers and Constant nodes, by name."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return constants


class _Parts:
    """One operator, and the nodes that it stands for."""

    def __init__(self, node: NodeProto, constants: Arrays) -> None:
        self._node, self._constants, self._form = node, constants, FORMS[node.op_type]
        self.added: dict[str, Array] = {}
        self._operands = self._form.operands or range(2, len(node.input), 3)

    @property
    def is_known(self) -> bool:
        """Whether scales and zero points are constants, and the axes in ONNX's order."""
        places = [place + i for place in (*self._operands, self._form.result - 1) for i in (1, 2)]
        named = [name for place in places if (name := self._name(place))]
        moved = any(attribute.name == "channels_last" and attribute.i for attribute in self._node.attribute)
        return all(name in self._constants for name in named) and not moved

    def nodes(self) -> Iterator[NodeProto]:
        node, form = self._node, self._form
        inputs = []
        for place in self._operands:
            axis = self._channels() if place == self._operands[-1] and form.operands else 0
            yield self._back(self._name(place), self._name(place + 1), self._name(place + 2), axis)
            inputs.append(self._float(self._name(place)))
        if form.bias is not None and (bias := self._name(form.bias)):
            scale = self._array(self._name(1)) * self._array(self._name(4))
            yield self._back(bias, self._add("bias_scale", scale.astype(np.float32)), "", 0)
            inputs.append(self._float(bias))
        scale, zero = self._name(form.result), self._name(form.result + 1)
        inner = NodeProto()
        inner.CopyFrom(node)
        inner.op_type, inner.domain = form.operator, ""
        del inner.input[:], inner.attribute[:]
        inner.attribute.extend(a for a in node.attribute if a.name not in OTHER_ATTRIBUTES)
        inner.input.extend(inputs)
        if not scale:
            yield inner
            return
        inner.output[0] = f"{node.output[0]}/float"
        yield inner
        pair = [inner.output[0], self._scalar(scale), *([self._scalar(zero)] if zero else [])]
        yield helper.make_node("QuantizeLinear", pair, [node.output[0]], name=f"{node.output[0]}/quantize")

    def _channels(self) -> int:
        transposed = any(attribute.name == "transB" and attribute.i for attribute in self._node.attribute)
        return 1 if self._form.operator == "Gemm" and not transposed else self._form.channels

    def _back(self, tensor: str, scale: str, zero: str, axis: int) -> NodeProto:
        names = [tensor, self._scalar(scale), *([self._scalar(zero)] if zero else [])]
        made = self._float(tensor)
        return helper.make_node("DequantizeLinear", names, [made], name=made, axis=axis)

    def _float(self, tensor: str) -> str:
        return f"{self._node.output[0]}/{tensor}/float"

    def _name(self, place: int) -> str:
        return str(self._node.input[place]) if place < len(self._node.input) else ""

    def _array(self, name: str) -> Any:
        array = self.added.get(name, self._constants.get(name))
        return array.reshape(()) if array is not None and array.size == 1 else array

    def _scalar(self, name: str) -> str:
        """The constant's name; of a copy without axes where it is one number in a list."""
        array = self.added.get(name, self._constants.get(name))
        return self._add(name, array.reshape(())) if array is not None and array.shape == (1,) else name

    def _add(self, name: str, array: Any) -> str:
        name = f"{self._node.output[0]}/{name}/constant"
        self.added[name] = array
        return name
