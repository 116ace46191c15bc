"""The mean or maximum of a whole map: knowing it in its plain forms, drawing it in the one that a target prefers."""

import onnx_ir as ir

from attn_export.exporter.artifacts import Target
from attn_export.exporter.cleanup.rule import Context, Drawing
from attn_export.exporter.graph.facts import attribute, axes_of, dims, is_op

REDUCED = {"ReduceMean": "Mean", "ReduceMax": "Max"}
GLOBAL = {"GlobalAveragePool": "Mean", "GlobalMaxPool": "Max"}


def pooled_kind(node: ir.Node | None) -> str:
    """Of a node that pools (N, C, H, W) to (N, C, 1, 1): "Mean" or "Max"; empty for any other."""
    if node is None or len(node.outputs) > 1 or len(dims(node.inputs[0]) or ()) != 4:
        return ""
    if is_op(node, *GLOBAL):
        return GLOBAL[node.op_type]
    if is_op(node, *REDUCED) and axes_of(node) == (2, 3) and attribute(node, "keepdims", 1):
        return REDUCED[node.op_type]
    return ""


def preferred(kind: str, context: Context) -> str:
    """The operator.

    A reduction, whose sum ONNX Runtime takes in pairs: with the global pool, which adds one number after the other,
    the error of an SE gate is two to four times as large. But that is what it computes in its blocked layout.
    """
    forms = GLOBAL if context.target is Target.ONNXRUNTIME else REDUCED
    return next(op_type for op_type, its_kind in forms.items() if its_kind == kind)


def drawn(drawing: Drawing, kind: str, source: ir.Value, context: Context) -> ir.Value:
    """(N, C, H, W) -> (N, C, 1, 1)."""
    shape = (*(dims(source) or (None, None))[:2], 1, 1)
    if preferred(kind, context) in GLOBAL:
        return drawing.add(preferred(kind, context), source, shape=shape, like=source)
    return drawing.reduce(kind, source, (2, 3), opset=context.opset, keepdims=True, shape=shape)
