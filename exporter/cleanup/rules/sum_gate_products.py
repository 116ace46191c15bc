"""For TensorRT: turns CBAM's two layers into products and sums.

Before:
    y = Conv(Add(Relu(Conv(mean over H and W, w1, b1)), Relu(Conv(maximum, w1, b1))), w2, b2)

After:
    both = Where([yes, no], mean, max)                       # (N, 2, 1, C), reduced from x transposed to channels last
    h = Relu(ReduceSum(both * w1, C) + b1)                   # (N, 2, hidden)
    y = Reshape(ReduceSum(ReduceSum(h, 2) * w2, hidden) + b2, [0, C, 1, 1])

The layers take a few thousand products for each image. As convolutions they are five dependent kernels; in this form
three, pools included: Where is pointwise, unlike Concat, so mean and maximum share a kernel (docs/cleanup.md).

Skips: groups, larger kernels, layers with different weights, activations other than Relu, opsets below 13.
"""

import numpy as np
import onnx_ir as ir

from attn_export.exporter.cleanup.pools import GLOBAL, REDUCED, pooled_kind
from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule, Skip
from attn_export.exporter.cleanup.rules.pool_channels_last import channels_last
from attn_export.exporter.cleanup.views import reshape_like
from attn_export.exporter.graph.facts import constant, dims, is_read_once, made_by, name_of
from attn_export.exporter.records.arrays import Array

FIRST_OPSET = 13


def _match(node: ir.Node, context: Context) -> MatchResult:
    added = made_by(node.inputs[0], "Add")
    if added is None:
        return None
    mean, maximum = (_pooled_layer(value) for value in added.inputs)
    if mean is None or maximum is None:
        return None
    if pooled_kind(mean[0]) == "Max":
        mean, maximum = maximum, mean
    (average, first), (_, second) = mean, maximum
    source = average.inputs[0]
    if (pooled_kind(average), pooled_kind(maximum[0])) != ("Mean", "Max") or source is None:
        return None
    if maximum[0].inputs[0] is not source or list(first.inputs[1:]) != list(second.inputs[1:]):
        return Skip("the branches don't share their map and weights")
    if context.opset < FIRST_OPSET:
        return Skip(f"ReduceSum with axes as input needs opset {FIRST_OPSET}, the file has {context.opset}")
    if not is_read_once(added.outputs[0]):
        return Skip("the hidden layer has other readers")
    w1, w2 = constant(first.inputs[1]), constant(node.inputs[1])
    if w1 is None or w2 is None or any(w.ndim != 4 or w.shape[2:] != (1, 1) for w in (w1, w2)):
        return None
    if any(len(layer.inputs) > 2 and constant(layer.inputs[2]) is None for layer in (first, node)):
        return Skip("a bias isn't constant")
    if w1.shape[1] != w2.shape[0] or w1.shape[0] != w2.shape[1]:
        return Skip("the layers are grouped")
    return _products(node, source, first, context)


def _pooled_layer(value: ir.Value | None) -> tuple[ir.Node, ir.Node] | None:
    """The pool and the convolution of Relu(Conv(pool)), if nothing else reads them."""
    relu = made_by(value, "Relu")
    layer = made_by(relu.inputs[0], "Conv") if relu is not None else None
    pool = made_by(layer.inputs[0], *REDUCED, *GLOBAL) if layer is not None else None
    if relu is None or layer is None or pool is None or not pooled_kind(pool) or constant(layer.inputs[1]) is None:
        return None
    between = (value, relu.inputs[0], layer.inputs[0])
    return (pool, layer) if all(v is not None and is_read_once(v) for v in between) else None


def _products(node: ir.Node, source: ir.Value, first: ir.Node, context: Context) -> MatchResult:
    builder, old = Builder(), node.outputs[0]
    (batch, channels, *_), opset = dims(source) or (None, None), context.opset
    w1, w2 = constant(first.inputs[1]), constant(node.inputs[1])
    assert w1 is not None
    assert w2 is not None
    hidden = w1.shape[0]
    mean = channels_last(builder, source, "Mean", context)
    maximum = channels_last(builder, source, "Max", context)
    yes_no = builder.constant(np.array([True, False]).reshape(1, 2, 1, 1), "first_of_two")
    both = builder.add("Where", yes_no, mean, maximum, shape=(batch, 2, 1, channels), like=source)
    name1, name2 = name_of(first.inputs[1]), name_of(node.inputs[1])
    products = builder.add(
        "Mul",
        both,
        builder.constant(w1.reshape(1, 1, hidden, -1), name1),
        shape=(batch, 2, hidden, channels),
        like=source,
    )
    h = builder.reduce("Sum", products, (3,), opset=opset, keepdims=False, shape=(batch, 2, hidden))
    h = _biased(builder, h, first, (1, 1, hidden))
    h = builder.add("Relu", h, shape=h.shape, like=source)
    h = builder.reduce("Sum", h, (1,), opset=opset, keepdims=True, shape=(batch, 1, hidden))
    products = builder.add(
        "Mul", h, builder.constant(w2.reshape(1, -1, hidden), name2), shape=(batch, w2.shape[0], hidden), like=source
    )
    y = builder.reduce("Sum", products, (2,), opset=opset, keepdims=False, shape=(batch, w2.shape[0]))
    new = reshape_like(builder, _biased(builder, y, node, (1, w2.shape[0])), old)
    return builder.rewrite((source,), old, new) if new is not None else None


def _biased(builder: Builder, value: ir.Value, layer: ir.Node, shape: tuple[int, ...]) -> ir.Value:
    bias = layer.inputs[2] if len(layer.inputs) > 2 else None
    array: Array | None = constant(bias)
    if bias is None or array is None:
        return value
    return builder.add(
        "Add", value, builder.constant(array.reshape(shape), bias.name or "bias"), shape=value.shape, like=value
    )


RULE = Rule("sum the gate's products", frozenset({"Conv"}), _match)
