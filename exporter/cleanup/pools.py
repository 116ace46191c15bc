"""Global pools: recognizes their canonical forms, and builds the form that a target prefers."""

import onnx_ir as ir

from attn_export.exporter.artifacts import Target
from attn_export.exporter.cleanup.rule import Builder, Context
from attn_export.exporter.graph.facts import attribute, axes_of, dims, is_op

REDUCED = {"ReduceMean": "Mean", "ReduceMax": "Max"}
GLOBAL = {"GlobalAveragePool": "Mean", "GlobalMaxPool": "Max"}


def pooled_kind(node: ir.Node | None) -> str:
    """The reduction of a node that pools (N, C, H, W) to (N, C, 1, 1), "Mean" or "Max"; empty for other nodes."""
    if node is None or len(node.outputs) > 1 or len(dims(node.inputs[0]) or ()) != 4:
        return ""
    if is_op(node, *GLOBAL):
        return GLOBAL[node.op_type]
    if is_op(node, *REDUCED) and axes_of(node) == (2, 3) and attribute(node, "keepdims", 1):
        return REDUCED[node.op_type]
    return ""


def preferred_operator(kind: str, context: Context) -> str:
    """The global pool for ONNX Runtime, whose blocked layout supports it, and the reduction otherwise.

    ONNX Runtime sums a reduction pairwise and a global pool sequentially, which makes the error of an SE gate two to
    four times as large.
    """
    operators = GLOBAL if context.target is Target.ONNXRUNTIME else REDUCED
    return next(op_type for op_type, its_kind in operators.items() if its_kind == kind)


def build_pool(builder: Builder, kind: str, source: ir.Value, context: Context) -> ir.Value:
    """(N, C, H, W) -> (N, C, 1, 1)."""
    shape = (*(dims(source) or (None, None))[:2], 1, 1)
    operator = preferred_operator(kind, context)
    if operator in GLOBAL:
        return builder.add(operator, source, shape=shape, like=source)
    return builder.reduce(kind, source, (2, 3), opset=context.opset, keepdims=True, shape=shape)
