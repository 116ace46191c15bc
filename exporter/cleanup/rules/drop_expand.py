"""A gate that is expanded before it is multiplied -> broadcasting does it.

Before:
    y = Mul(x, Expand(gate, Shape(x)))                       # gate.expand_as(x), or expand(n, c, h, w)

After:
    y = Mul(x, gate)

Kept away from: an Expand that makes the result larger than x is; operators that don't broadcast.
"""

import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Context, Drawing, Proposal, Rule, Skip
from attn_export.exporter.cleanup.sizes import Sizes, shape_of, sizes_in
from attn_export.exporter.graph.facts import made_by, other_input

BINARY = ("Mul", "Add", "Sub", "Div")


def at(node: ir.Node, context: Context) -> Proposal:
    """See the module."""
    reason = ""
    for expanded in node.inputs:
        expand = made_by(expanded, "Expand")
        if expand is None or expanded is None:
            continue
        small, other = expand.inputs[0], other_input(node, expanded)
        if small is None or other is None or other is expanded:
            continue
        reason = _obstacle(shape_of(small), shape_of(other), sizes_in(expand.inputs[1]))
        if reason:
            continue
        drawing, old = Drawing(), node.outputs[0]
        inputs = [small if value is expanded else value for value in node.inputs]
        new = drawing.add(node.op_type, *inputs, shape=old.shape, like=old)
        return drawing.rewrite((small, other), old, new)
    return Skip(reason) if reason else None


def _obstacle(small: Sizes | None, other: Sizes | None, target: Sizes | None) -> str:
    """Why broadcasting ``small`` against ``other`` could give less than Expand does."""
    if target is None:
        return "what it is expanded to is computed from more than shapes"
    if small is None or other is None:
        return "the rank of an operand isn't known"
    if len(target) > len(other) and len(target) > len(small):
        return "it is expanded to more axes than the other operand has"
    for back in range(1, len(target) + 1):
        size = target[-back]
        if size == 1:
            continue
        same = [shape[-back] for shape in (small, other) if back <= len(shape)]
        if size is None or size not in same:
            return f"axis -{back} may be expanded beyond the other operand"
    return ""


RULE = Rule("let broadcasting expand", frozenset(BINARY), at)
