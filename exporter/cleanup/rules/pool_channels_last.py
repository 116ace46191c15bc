"""For TensorRT: a gate's pool over H and W -> the same over a transposed map.

Before:
    p = ReduceMean(x, [2, 3])                                # (N, C, 1, 1), the input of a gate's first layer

After:
    p = Reshape(ReduceMean(Transpose(x, [0, 2, 3, 1]), [1, 2]), [0, C, 1, 1])

TensorRT computes on channels-last maps and transposes before a reduction over H and W. Written like this, the
transposition is part of the reduction's kernel: one kernel less for each block, at every size (docs/cleanup.md).

Kept away from: the pool before the classifier, where it is a kernel more.
"""

import onnx_ir as ir

from attn_export.exporter.cleanup.pools import GLOBAL, REDUCED, pooled_kind
from attn_export.exporter.cleanup.rule import Context, Drawing, Proposal, Rule
from attn_export.exporter.cleanup.views import reshaped
from attn_export.exporter.graph.facts import constant, dims, is_op, users


def at(node: ir.Node, context: Context) -> Proposal:
    """See the module."""
    source, old, kind = node.inputs[0], node.outputs[0], pooled_kind(node)
    shape = dims(source)
    if not kind or source is None or shape is None or len(shape) != 4 or not isinstance(shape[1], int):
        return None
    reading = users(old)
    if not reading or not all(is_op(user, "Conv") and constant(user.inputs[1]) is not None for user in reading):
        return None
    drawing = Drawing()
    pooled = channels_last(drawing, source, kind, context)
    new = reshaped(drawing, pooled, old)
    return drawing.rewrite((source,), old, new) if new is not None else None


def channels_last(drawing: Drawing, source: ir.Value, kind: str, context: Context) -> ir.Value:
    """(N, C, H, W) -> (N, 1, 1, C), the mean or maximum over H and W."""
    batch, channels, height, width = dims(source) or (None,) * 4
    turned = drawing.add("Transpose", source, shape=(batch, height, width, channels), like=source, perm=[0, 2, 3, 1])
    return drawing.reduce(kind, turned, (1, 2), opset=context.opset, keepdims=True, shape=(batch, 1, 1, channels))


RULE = Rule("pool channels last", frozenset({**REDUCED, **GLOBAL}), at)
