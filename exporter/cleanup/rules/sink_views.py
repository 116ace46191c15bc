"""Activations and sums of flattened vectors -> of the vectors, then flattened.

Before:
    g = Sigmoid(Flatten(c))                                  # c: (N, C, 1, 1)

After:
    g = Flatten(Sigmoid(c))

Repeated, it moves the view down to its inverse, and `merge_views` removes both.

Skips: vectors that don't become a gate.
"""

import numpy as np
import onnx_ir as ir

from attn_export.exporter.cleanup.gating import ACTIVATIONS, ends_in_gate
from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule, Skip
from attn_export.exporter.cleanup.views import is_view, reshape_like, source_of
from attn_export.exporter.graph.facts import attributes_of, constant, dims, is_op, is_pooled, rank

BINARY = frozenset({"Add", "Sub", "Mul", "Div", "Min", "Max"})


def _match(node: ir.Node, context: Context) -> MatchResult:
    old = node.outputs[0]
    if rank(old) not in (2, 3) or not any(value is not None and is_view(value.producer()) for value in node.inputs):
        return None
    builder = Builder()
    inputs: list[ir.Value | None] = []
    sources: list[ir.Value] = []
    for index, value in enumerate(node.inputs):
        source = source_of(value)
        if source is not None and source is not value and is_pooled(source) and dims(value) == dims(old):
            sources.append(source)
            inputs.append(source)
        elif value is None or _is_scalar(value) or (index > 0 and is_op(node, "BatchNormalization")):
            inputs.append(value)
        elif is_op(node, *BINARY) and (lifted := _lifted(builder, value, old)) is not None:
            inputs.append(lifted)
        else:
            return None
    if not sources or len({dims(source) for source in sources}) != 1:
        return None
    if not ends_in_gate(old):
        return Skip("the result doesn't become a gate")
    result = builder.add(node.op_type, *inputs, shape=sources[0].shape, like=old, **attributes_of(node))
    new = reshape_like(builder, result, old)
    if new is None:
        return Skip("the shape of the result is unknown")
    return builder.rewrite(tuple(dict.fromkeys(sources)), old, new)


def _is_scalar(value: ir.Value) -> bool:
    array = constant(value)
    return array is not None and array.size == 1 and array.ndim <= 1


def _lifted(builder: Builder, value: ir.Value, old: ir.Value) -> ir.Value | None:
    """A constant vector (C) or (1, C) as (1, C, 1, 1)."""
    array, shape = constant(value), dims(old)
    if array is None or shape is None or len(shape) != 2 or array.shape not in ((shape[1],), (1, shape[1])):
        return None
    return builder.constant(np.ascontiguousarray(array).reshape(1, -1, 1, 1), f"{value.name}")


RULE = Rule("sink views", ACTIVATIONS | BINARY | {"BatchNormalization"}, _match)
