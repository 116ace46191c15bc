"""The first convolution of a graph, and what a graph does with pixels before it."""

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Builder, Rewrite, Skip
from attn_export.exporter.graph.facts import attribute, attributes_of, constant, is_op, is_read_once
from attn_export.exporter.records.arrays import Array

# Operators of preprocessing.
PREPARES = ("Cast", "Transpose", "Reshape", "Slice", "Sub", "Add", "Mul", "Div", "Identity")


class FirstConvolution(NamedTuple):
    """The convolution that reads a prepared image.

    Attributes:
        before: the node before it.
        weight: (O, C, kH, kW).
        bias: (O,), or None.
    """

    before: ir.Node
    weight: Array
    bias: Array | None


def first_convolution(node: ir.Node, before: str) -> FirstConvolution | Skip | None:
    """A convolution if a node of this kind, and else nothing but preprocessing, is between it and the graph's input."""
    value = node.inputs[0]
    above = value.producer() if value is not None else None
    if value is None or above is None or not is_op(above, before) or not is_prepared_image(value):
        return None
    if not is_read_once(value):
        return Skip("the image has other readers")
    weight, bias = constant(node.inputs[1]), constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if weight is None or (bias is None and len(node.inputs) > 2 and node.inputs[2] is not None):
        return Skip("the convolution's weights aren't constant")
    if attribute(node, "group", 1) != 1:
        return Skip("the convolution has groups")
    return FirstConvolution(above, weight, bias)


def is_prepared_image(value: ir.Value | None) -> bool:
    """Whether nothing but preprocessing is between a value and an input of the graph."""
    while value is not None and not value.is_graph_input():
        node = value.producer()
        if node is None or not is_op(node, *PREPARES):
            return False
        value = next((given for given in node.inputs if given is not None and constant(given) is None), None)
    return value is not None


def of_channels(value: ir.Value | None, channels: int) -> Array | None:
    """The C numbers of a constant (1, C, 1, 1) or (C, 1, 1) in float64; None for another constant."""
    array = constant(value)
    if array is None or array.ndim not in (3, 4) or (1,) * (4 - array.ndim) + array.shape != (1, channels, 1, 1):
        return None
    return array.reshape(-1).astype(np.float64)


def with_inputs(
    node: ir.Node, builder: Builder, source: ir.Value, weight: ir.Value | None, bias: ir.Value | None
) -> Rewrite:
    """The rewrite to the same convolution of another source, weight and bias."""
    operands = (source, weight) if bias is None else (source, weight, bias)
    return builder.last(node, (source,), "Conv", *operands, **attributes_of(node))
