"""A transpose that only moves axes of size 1 -> a view.

Before:
    y = Transpose(x, perm=[0, 2, 1])                         # x: (N, C, 1), for ECA's 1-d convolution

After:
    y = Reshape(x, [0, 1, C])

Axes of size 1 don't affect the order of elements.
"""

import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule, Skip
from attn_export.exporter.cleanup.views import reshape_like
from attn_export.exporter.graph.facts import attribute, dims


def _match(node: ir.Node, context: Context) -> MatchResult:
    source, old = node.inputs[0], node.outputs[0]
    shape = dims(source)
    if source is None or shape is None or old.shape is None:
        return None
    order = attribute(node, "perm", tuple(reversed(range(len(shape)))))
    moved = [axis for axis in order if shape[axis] != 1]
    if 1 not in shape or moved != sorted(moved):
        return None
    builder = Builder()
    new = reshape_like(builder, source, old)
    if new is None:
        return Skip("no constant can express the final shape")
    return builder.rewrite((source,), old, new)


RULE = Rule("turn unit transposes into views", frozenset({"Transpose"}), _match)
