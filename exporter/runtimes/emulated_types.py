"""Emulates float16 and bfloat16: the graph computes in float32 and rounds each result to its type.

This models a runtime with narrow operands and float32 accumulators, and needs no bfloat16 kernels. numpy's bfloat16
also accumulates in bfloat16: the mean of 12544 numbers is off by 90 %.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from attn_export.exporter.errors import InputError
from attn_export.exporter.runtimes.quantized_operators import load_in_pairs

NARROW = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
# Attributes that name a type.
TYPES = ("to", "dtype", "output_dtype")
# Below opset 22 convolutions have no bfloat16; they are unchanged otherwise.
TYPED_OPSET = 22


def emulated(path: Path) -> ModelProto:
    """Read an ONNX file and make every operator float32, followed by Casts to its type and back.

    ``x`` becomes the name of the rounded ``x``. Inputs and outputs are float32.

    Raises:
        InputError: the graph has subgraphs (If, Loop).
    """
    model = load_in_pairs(path)
    graph = model.graph
    attributes = (attribute for node in graph.node for attribute in node.attribute)
    if any(attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for attribute in attributes):
        raise InputError(
            f"{path} has control flow, which the emulation doesn't support", hint="Export the network without it."
        )
    types = _types(model)
    retype(model, NARROW, np.float32)
    nodes = list(graph.node)
    del graph.node[:]
    for value in graph.input:
        narrow = types.get(value.name)
        if narrow in NARROW and value.name not in {tensor.name for tensor in graph.initializer}:
            _rename_inputs(nodes, value.name, f"{value.name}/rounded")
            graph.node.extend(_rounding(value.name, f"{value.name}/rounded", narrow))
    for node in nodes:
        graph.node.extend(_emulate(node, types))
    return model


def retype(model: ModelProto, types: Collection[int], dtype: type[np.floating[Any]]) -> None:
    """Make everything of these types in a graph one of ``dtype``: weights, attributes, inputs and outputs."""
    graph, kind = model.graph, helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    for attribute in attributes:
        if attribute.name in TYPES and attribute.i in types:
            attribute.i = kind
    for tensor in (*graph.initializer, *(a.t for a in attributes if a.type == AttributeProto.TENSOR)):
        if tensor.data_type in types:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name))
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in types:
            value.type.tensor_type.elem_type = kind
    del graph.value_info[:]


def _types(model: ModelProto) -> dict[str, int]:
    """Tensor -> type, as declared or inferred; defaults to that of the node's first input."""
    typed = ModelProto()
    typed.CopyFrom(model)
    for opset in typed.opset_import:
        if not opset.domain and opset.version < TYPED_OPSET:
            opset.version = TYPED_OPSET
    graph = onnx.shape_inference.infer_shapes(typed).graph
    found = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.elem_type:
            found[value.name] = value.type.tensor_type.elem_type
    for node in graph.node:
        of_first = next((found[name] for name in node.input if name in found), 0)
        for name in node.output:
            found.setdefault(name, of_first)
    return found


def _emulate(node: NodeProto, types: dict[str, int]) -> Iterator[NodeProto]:
    """The node in float32, and the Casts of its results."""
    roundings: list[NodeProto] = []
    for i, name in enumerate(node.output):
        narrow = types.get(name, 0)
        if name and narrow in NARROW:
            node.output[i] = f"{name}/exact"
            roundings += _rounding(f"{name}/exact", name, narrow)
    yield node
    yield from roundings


def _rounding(source: str, name: str, narrow: int) -> list[NodeProto]:
    return [
        helper.make_node("Cast", [source], [f"{name}/narrow"], name=f"{name}/round", to=narrow),
        helper.make_node("Cast", [f"{name}/narrow"], [name], name=f"{name}/widen", to=TensorProto.FLOAT),
    ]


def _rename_inputs(nodes: list[NodeProto], old: str, new: str) -> None:
    for node in nodes:
        node.input[:] = [new if name == old else name for name in node.input]
