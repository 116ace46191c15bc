"""The mean of a 1x1 convolution -> the 1x1 convolution of the mean.

Before:
    x = Conv(y, w3, b3)                                      # 1x1, the last convolution of a bottleneck
    h = Conv(ReduceMean(x, [2, 3]), w1, b1)                  # the first layer of an SE block that gates x

After:
    h = Conv(ReduceMean(y, [2, 3]), w1 w3, w1 b3 + b1)        # a quarter of the map, a quarter of the weights

A pointwise convolution commutes with the mean. The pool no longer waits for the expansion. In TensorRT expansion, gate,
residual and activation become one kernel at a fixed batch of 1; in an int8 graph of any batch the kernel that quantizes
the pool's source computes the pool as well, one kernel less for each block (docs/precision.md).

Skips: strides, padding, groups, larger kernels; convolutions that reduce the channels.
"""

import numpy as np
import onnx_ir as ir

from attn_export.exporter.cleanup.pools import build_pool, pooled_kind
from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule, Skip
from attn_export.exporter.graph.facts import attribute, constant, dims, made_by, name_of, only_user
from attn_export.exporter.records.arrays import Array


def _match(node: ir.Node, context: Context) -> MatchResult:
    pool = made_by(node.inputs[0], "GlobalAveragePool", "ReduceMean")
    pool = pool if pooled_kind(pool) else None
    expansion = made_by(pool.inputs[0], "Conv") if pool is not None else None
    if pool is None or expansion is None or only_user(pool.outputs[0]) is not node:
        return None
    w1, w3 = constant(node.inputs[1]), constant(expansion.inputs[1])
    source, narrow = expansion.inputs[0], dims(expansion.inputs[0])
    if w1 is None or w3 is None or source is None or narrow is None or w1.ndim != 4 or w3.ndim != 4:
        return None
    if not all(_is_pointwise(conv, weight) for conv, weight in ((node, w1), (expansion, w3))):
        return Skip("a convolution isn't pointwise: kernel 1x1, stride 1, no padding, one group")
    if w3.shape[1] >= w3.shape[0]:
        return None
    squeeze, expand = (w[:, :, 0, 0].astype(np.float64) for w in (w1, w3))
    b1, b3 = (_bias(conv, w.shape[0]) for conv, w in ((node, w1), (expansion, w3)))
    if b1 is None or b3 is None:
        return Skip("a bias isn't constant")
    builder = Builder()
    name = name_of(node.inputs[1])
    mean = build_pool(builder, "Mean", source, context)
    weight = builder.constant((squeeze @ expand).astype(w1.dtype)[:, :, None, None], name)
    inputs = [mean, weight]
    if len(node.inputs) > 2 or len(expansion.inputs) > 2:
        shift = (squeeze @ b3 + b1).astype(w1.dtype)
        inputs.append(builder.constant(shift, f"{name.removesuffix('.weight')}.bias"))
    return builder.last(node, (source,), "Conv", *inputs, kernel_shape=[1, 1])


def _is_pointwise(conv: ir.Node, weight: Array) -> bool:
    plain = all(n == 1 for n in attribute(conv, "strides", ())) and not any(attribute(conv, "pads", ()))
    padded = attribute(conv, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    return weight.shape[2:] == (1, 1) and plain and not padded and attribute(conv, "group", 1) == 1


def _bias(conv: ir.Node, channels: int) -> Array | None:
    if len(conv.inputs) < 3 or conv.inputs[2] is None:
        return np.zeros(channels)
    array = constant(conv.inputs[2])
    return None if array is None else array.astype(np.float64)


RULE = Rule("squeeze before the expansion", frozenset({"Conv"}), _match, recomputes_constants=True)
