"""For TensorRT: a gate's pool over H and W -> a pool over the transposed map.

Before:
    p = ReduceMean(x, [2, 3])                                # (N, C, 1, 1), the input of a gate's first layer

After:
    p = Reshape(ReduceMean(Transpose(x, [0, 2, 3, 1]), [1, 2]), [0, C, 1, 1])

TensorRT keeps maps channels-last and transposes them before a reduction over H and W. In this form it fuses the
transposition with the reduction: one kernel less for each block, at every size (docs/cleanup.md).

Skips: the pool before the classifier, where this form costs a kernel.
"""

import onnx_ir as ir

from attn_export.exporter.cleanup.pools import GLOBAL, REDUCED, pooled_kind
from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule
from attn_export.exporter.cleanup.views import reshape_like
from attn_export.exporter.graph.facts import constant, dims, is_op, users


def _match(node: ir.Node, context: Context) -> MatchResult:
    source, old, kind = node.inputs[0], node.outputs[0], pooled_kind(node)
    shape = dims(source)
    if not kind or source is None or shape is None or len(shape) != 4 or not isinstance(shape[1], int):
        return None
    readers = users(old)
    if not readers or not all(is_op(user, "Conv") and constant(user.inputs[1]) is not None for user in readers):
        return None
    builder = Builder()
    pooled = channels_last(builder, source, kind, context)
    new = reshape_like(builder, pooled, old)
    return builder.rewrite((source,), old, new) if new is not None else None


def channels_last(builder: Builder, source: ir.Value, kind: str, context: Context) -> ir.Value:
    """(N, C, H, W) -> (N, 1, 1, C), the mean or maximum over H and W."""
    batch, channels, height, width = dims(source) or (None,) * 4
    nhwc = builder.add("Transpose", source, shape=(batch, height, width, channels), like=source, perm=[0, 2, 3, 1])
    return builder.reduce(kind, nhwc, (1, 2), opset=context.opset, keepdims=True, shape=(batch, 1, 1, channels))


RULE = Rule("pool channels last", frozenset({**REDUCED, **GLOBAL}), _match)
