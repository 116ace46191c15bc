"""Expand or Tile of a gate before a product -> implicit broadcasting.

Before (each):
    y = Mul(x, Expand(gate, Shape(x)))                       # gate.expand_as(x), or expand(n, c, h, w)
    y = Mul(x, Tile(gate, [1, 64, 1, 1]))                    # gate.repeat(1, c, 1, 1)

After:
    y = Mul(x, gate)

Skips: an Expand that enlarges the result; operators that don't broadcast.
"""

import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule, Skip
from attn_export.exporter.cleanup.sizes import SymbolicShape, shape_of, sizes_in
from attn_export.exporter.graph.facts import is_op, made_by, other_input

BINARY = ("Mul", "Add", "Sub", "Div")


def _match(node: ir.Node, context: Context) -> MatchResult:
    reason = ""
    for expanded in node.inputs:
        expand = made_by(expanded, "Expand", "Tile")
        if expand is None or expanded is None:
            continue
        small, other = expand.inputs[0], other_input(node, expanded)
        if small is None or other is None or other is expanded:
            continue
        sizes = sizes_in(expand.inputs[1])
        target = _tiled(shape_of(small), sizes) if is_op(expand, "Tile") else sizes
        reason = _obstacle(shape_of(small), shape_of(other), target)
        if reason:
            continue
        inputs = [small if value is expanded else value for value in node.inputs]
        return Builder().last(node, (small, other), node.op_type, *inputs)
    return Skip(reason) if reason else None


def _tiled(small: SymbolicShape | None, repeats: SymbolicShape | None) -> SymbolicShape | None:
    """The shape to which Tile repeats a tensor, None for an axis of several numbers that is repeated."""
    if small is None or repeats is None:
        return None
    pairs = zip(small, repeats, strict=True)
    return tuple(count if size == 1 else size if count == 1 else None for size, count in pairs)


def _obstacle(small: SymbolicShape | None, other: SymbolicShape | None, target: SymbolicShape | None) -> str:
    """Why broadcasting ``small`` against ``other`` could differ from Expand."""
    if target is None:
        return "the target shape depends on data"
    if small is None or other is None:
        return "an operand has an unknown rank"
    if len(target) > len(other) and len(target) > len(small):
        return "Expand adds an axis that the other operand lacks"
    for back in range(1, len(target) + 1):
        size = target[-back]
        if size == 1:
            continue
        same = [shape[-back] for shape in (small, other) if back <= len(shape)]
        if size is None or size not in same:
            return f"axis -{back} may grow beyond the other operand"
    return ""


RULE = Rule("drop Expand before broadcasting", frozenset(BINARY), _match)
