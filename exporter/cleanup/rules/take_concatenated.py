"""A Slice of a Concat that takes one of its parts -> that part.

Before:
    y = Slice(Concat(a, b, axis=1), 0, 16, axis=1)           # a: (N, 16, H, W)

After:
    y = a

Skips: other axes, steps, parts of unknown size, slices of less or more than a part.
"""

import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Context, MatchResult, Rewrite, Rule
from attn_export.exporter.graph.facts import attribute, dims, made_by, rank, scalar


def _match(node: ir.Node, context: Context) -> MatchResult:
    concat, total = made_by(node.inputs[0], "Concat"), rank(node.inputs[0])
    bounds = [scalar(value) for value in node.inputs[1:]]
    if concat is None or total is None or len(bounds) < 3 or None in bounds or bounds[3:] not in ([], [1]):
        return None
    first, last, axis = (int(bound) for bound in bounds[:3] if bound is not None)
    if axis % total != attribute(concat, "axis", 0) % total or first < 0 or last < 0:
        return None
    start = 0
    for part in concat.inputs:
        size = (dims(part) or (None,) * total)[axis % total]
        if part is None or not isinstance(size, int) or start > first:
            return None
        if first == start and last == start + size:
            return Rewrite(tuple(v for v in concat.inputs if v is not None), node.outputs[0], part)
        start += size
    return None


RULE = Rule("take what was concatenated", frozenset({"Slice"}), _match)
