"""A transpose that moves axes of size 1 only -> a view.

Before:
    y = Transpose(x, perm=[0, 2, 1])                         # x: (N, C, 1), as ECA's 1-d convolution wants it

After:
    y = Reshape(x, [0, 1, C])

The numbers stay in their order, because axes of size 1 have no order.
"""

import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Context, Drawing, Proposal, Rule, Skip
from attn_export.exporter.cleanup.views import reshaped
from attn_export.exporter.graph.facts import attribute, dims


def at(node: ir.Node, context: Context) -> Proposal:
    """See the module."""
    source, old = node.inputs[0], node.outputs[0]
    shape = dims(source)
    if source is None or shape is None or old.shape is None:
        return None
    order = attribute(node, "perm", tuple(reversed(range(len(shape)))))
    moved = [axis for axis in order if shape[axis] != 1]
    if 1 not in shape or moved != sorted(moved):
        return None
    drawing = Drawing()
    new = reshaped(drawing, source, old)
    if new is None:
        return Skip("the shape in the end can't be written as a constant")
    return drawing.rewrite((source,), old, new)


RULE = Rule("view a transpose of units", frozenset({"Transpose"}), at)
