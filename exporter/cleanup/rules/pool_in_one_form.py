"""Any spelling of a global mean or maximum pool -> one form.

Before (each):
    y = ReduceMean(x, axes=[2, 3])                  # x.mean((2, 3)), also as two means, or of x.flatten(2)
    y = AveragePool(x, kernel_shape=[H, W])         # where H and W are known; MaxPool likewise
    y = ReduceMax(x, axes=[-1, -2], keepdims=0)

After:
    y = ReduceMean(x, axes=[2, 3])                  # or ReduceMax; and a view if keepdims=0
    y = GlobalAveragePool(x)                        # or GlobalMaxPool, for ONNX Runtime: see `pools.preferred_operator`

The result is independent of H and W.

Skips: kernels smaller than the map, maps of unknown size, padding, other axes.
"""

import onnx_ir as ir

from attn_export.exporter.cleanup.gating import ends_in_gate
from attn_export.exporter.cleanup.pools import GLOBAL, REDUCED, build_pool, pooled_kind, preferred_operator
from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule, Skip
from attn_export.exporter.cleanup.views import is_view, reshape_like
from attn_export.exporter.graph.facts import attribute, axes_of, dims, is_op, is_read_once, made_by

SIZED = {"AveragePool": "Mean", "MaxPool": "Max"}
KINDS = {**REDUCED, **GLOBAL, **SIZED}


def _match(node: ir.Node, context: Context) -> MatchResult:
    kind, source, old = KINDS[node.op_type], node.inputs[0], node.outputs[0]
    if is_op(node, "ReduceMean", "ReduceMax"):
        source = _reduced_map(node)
    elif is_op(node, *SIZED):
        source = source if _fills_its_map(node) else None
        if source is None:
            return Skip("the kernel may not cover the whole map") if _is_large(node) else None
    shape = dims(source)
    if source is None or shape is None or len(shape) != 4 or len(node.outputs) > 1:
        return None
    if pooled_kind(node) and node.op_type == preferred_operator(kind, context):
        return None
    builder = Builder()
    new = build_pool(builder, kind, source, context)
    if len(dims(old) or ()) != 4 or (dims(old) or ())[2:] != (1, 1):
        if not ends_in_gate(old):
            return Skip("the rewrite would add a view")
        view = reshape_like(builder, new, old)
        if view is None:
            return Skip("the shape of the result is unknown")
        new = view
    return builder.rewrite((source,), old, new)


def _reduced_map(node: ir.Node) -> ir.Value | None:
    """The (N, C, H, W) that a reduction pools over H and W, in one step or two."""
    source, axes = node.inputs[0], axes_of(node)
    if source is None or axes is None:
        return None
    shape = dims(source)
    if shape is None:
        return None
    if len(shape) == 4 and axes == (2, 3):
        return source
    inner = made_by(source, node.op_type)
    if inner is not None and inner.inputs[0] is not None and is_read_once(source):  # one axis after the other
        whole, first = dims(inner.inputs[0]), axes_of(inner)
        kept = attribute(inner, "keepdims", 1)
        second = (2,) if first == (3,) or (first == (2,) and not kept) else (3,)
        if whole is not None and len(whole) == 4 and first in ((2,), (3,)) and axes == second:
            return inner.inputs[0]
    flattened = source.producer()
    if len(shape) == 3 and axes == (2,) and flattened is not None and is_view(flattened):
        whole = dims(flattened.inputs[0])
        if whole is not None and len(whole) == 4 and whole[1] == shape[1] and isinstance(shape[1], int):
            return flattened.inputs[0] if whole[0] == shape[0] and whole[0] is not None else None
    return None


def _is_large(node: ir.Node) -> bool:
    """Whether the kernel is probably meant to cover the whole map."""
    kernel = attribute(node, "kernel_shape", ())
    return len(kernel) == 2 and min(kernel) > 3 and not any(attribute(node, "pads", ()))


def _fills_its_map(node: ir.Node) -> bool:
    shape, kernel = dims(node.inputs[0]), tuple(attribute(node, "kernel_shape", ()))
    plain = not any(attribute(node, "pads", ())) and attribute(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID")
    undilated = all(d == 1 for d in attribute(node, "dilations", ()))
    return shape is not None and len(shape) == 4 and kernel == shape[2:] and plain and undilated


RULE = Rule("canonicalize global pools", frozenset(KINDS), _match)
