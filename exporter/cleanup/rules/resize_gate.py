"""For ONNX Runtime: resizes a channel gate to its map.

Before:
    y = Mul(x, gate)                                         # gate: (N, C, 1, 1), broadcast

After:
    y = Mul(x, Resize(gate, scales=[1, 1, H, W]))            # nearest neighbour

On CPUs, ONNX Runtime computes convolutions in a blocked layout and leaves it for broadcasting products: two reorders of
the whole map for each block. The product of two maps of one size stays in it (figures in docs/cleanup.md).

Skips: dynamic H and W, where computing the sizes in every run costs more than the rewrite gains.
"""

import numpy as np
import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule, Skip
from attn_export.exporter.graph.facts import GATE_ACTIVATIONS, dims, is_op, is_pooled, made_by, other_input


def _match(node: ir.Node, context: Context) -> MatchResult:
    gate = next((value for value in node.inputs if is_pooled(value)), None)
    source = other_input(node, gate) if gate is not None else None
    shape = dims(source)
    if gate is None or source is None or shape is None or len(shape) != 4 or made_by(gate, *GATE_ACTIVATIONS) is None:
        return None
    _, channels, height, width = shape
    batch = (dims(gate) or (None,))[0]
    if channels != (dims(gate) or (None, None))[1]:
        return None
    if not isinstance(height, int) or not isinstance(width, int):
        return Skip("H and W are dynamic")
    if (height, width) == (1, 1):
        return None
    if not is_op(source.producer(), *BLOCKED):
        return Skip("the map isn't in the blocked layout")
    if context.opset < FIRST_OPSET:
        return Skip(f"Resize without roi needs opset {FIRST_OPSET}, the file has {context.opset}")
    builder = Builder()
    scales = builder.constant(np.array([1, 1, height, width], dtype=np.float32), f"to_{height}x{width}")
    whole = builder.add(
        "Resize",
        gate,
        None,
        scales,
        shape=(batch, channels, height, width),
        like=gate,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    return builder.last(node, (source, gate), "Mul", source, whole)


# Operators that ONNX Runtime computes in its blocked layout, alone or fused into a convolution.
BLOCKED = ("Conv", "Relu", "Clip", "Add", "MaxPool", "AveragePool", "Concat")
FIRST_OPSET = 13
RULE = Rule("resize the gate", frozenset({"Mul"}), _match)
