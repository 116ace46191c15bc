"""CBAM's shared second layer on two vectors, added -> the layer on their sum.

Before:
    y = Add(Conv(a, weight, bias), Conv(m, weight, bias))    # a, m: hidden, from the average and from the maximum

After:
    y = Conv(Add(a, m), weight, 2 * bias)

The layer is linear: Woo et al., https://arxiv.org/abs/1807.06521, equation 2. Saves a convolution for each block and,
in TensorRT, a kernel and a synchronization.

Skips: layers with different weights, a result with other readers, maps larger than 1 x 1 (their sum would go through
memory).
"""

import numpy as np
import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule, Skip
from attn_export.exporter.graph.facts import attributes_of, constant, dims, is_pooled, is_read_once, made_by, name_of


def _match(node: ir.Node, context: Context) -> MatchResult:
    layers = [made_by(value, "Conv") for value in node.inputs]
    if any(layer is None for layer in layers) or not is_pooled(node.outputs[0]):
        return None
    first, second = layers
    assert first is not None
    assert second is not None
    a, m = first.inputs[0], second.inputs[0]
    if first is second or a is None or m is None or not (is_pooled(a) and dims(a) == dims(m)):
        return None
    weight, bias = constant(first.inputs[1]), constant(_bias(first))
    if weight is None or not _equal(first.inputs[1], second.inputs[1]) or not _equal(_bias(first), _bias(second)):
        return Skip("the two layers don't share their weights")
    if attributes_of(first) != attributes_of(second):
        return Skip("the two layers differ in their attributes")
    if not all(value is not None and is_read_once(value) for value in node.inputs):
        return Skip("a layer's result has other readers")
    builder = Builder()
    inputs: list[ir.Value | None] = [builder.add("Add", a, m, shape=a.shape, like=a), first.inputs[1]]
    if bias is not None:
        inputs.append(builder.constant(bias * bias.dtype.type(2), name_of(_bias(first), "bias")))
    return builder.last(node, (a, m), "Conv", *inputs, **attributes_of(first))


def _bias(layer: ir.Node) -> ir.Value | None:
    return layer.inputs[2] if len(layer.inputs) > 2 else None


def _equal(first: ir.Value | None, second: ir.Value | None) -> bool:
    """Whether both are equal constants, or both are missing."""
    if first is second:
        return first is None or constant(first) is not None
    a, b = constant(first), constant(second)
    return a is not None and b is not None and a.dtype == b.dtype and np.array_equal(a, b)


RULE = Rule("apply the shared layer once", frozenset({"Add"}), _match)
