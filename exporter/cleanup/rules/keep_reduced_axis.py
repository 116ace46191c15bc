"""A reduction that drops an axis, and a view that restores it -> a reduction that keeps it.

Before:
    y = Unsqueeze(ReduceMax(x, axes=[1], keepdims=0), [1])   # torch.max(x, 1)[0].unsqueeze(1)

After:
    y = ReduceMax(x, axes=[1], keepdims=1)

Skips: a reduction with other readers.
"""

from collections.abc import Sequence

import onnx_ir as ir

from attn_export.exporter.artifacts import Dim
from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule, Skip
from attn_export.exporter.cleanup.views import VIEWS, is_view, same_sizes
from attn_export.exporter.graph.facts import attribute, attributes_of, axes_of, dims, is_op, is_read_once, made_by

REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceSum", "ReduceMin", "ReduceL2")


def _match(node: ir.Node, context: Context) -> MatchResult:
    reduced, old = node.inputs[0], node.outputs[0]
    reduction = made_by(reduced, *REDUCTIONS)
    if reduction is None or reduced is None or not is_view(node) or attribute(reduction, "keepdims", 1):
        return None
    source, axes = reduction.inputs[0], axes_of(reduction)
    if source is None or axes is None:
        return Skip("the reduced axes are unknown")
    if not _restores(node, axes, dims(source), dims(old)):
        return None
    if not is_read_once(reduced):
        return Skip("another node reads the reduction without the axis")
    attributes = {**attributes_of(reduction), "keepdims": 1}
    return Builder().last(node, (source,), reduction.op_type, *reduction.inputs, **attributes)


def _restores(view: ir.Node, axes: tuple[int, ...], before: Sequence[Dim] | None, after: Sequence[Dim] | None) -> bool:
    if is_op(view, "Unsqueeze"):
        return axes_of(view) == axes
    if before is None or after is None:
        return False
    return same_sizes([1 if axis in axes else size for axis, size in enumerate(before)], after)


RULE = Rule("keep the reduced axis", frozenset(VIEWS), _match)
