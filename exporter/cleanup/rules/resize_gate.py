"""For ONNX Runtime: a channel gate brought to the size of its map.

Before:
    y = Mul(x, gate)                                         # gate: (N, C, 1, 1), broadcast

After:
    y = Mul(x, Resize(gate, scales=[1, 1, H, W]))            # nearest neighbour

ONNX Runtime computes convolutional networks on CPUs in a blocked layout, and leaves it for a multiplication that
broadcasts: two reorderings of the whole map for each block. Two maps of one size are multiplied inside of it
(docs/cleanup.md has the figures).

Kept away from: maps whose H and W aren't known, where the sizes would have to be computed in every run and it costs
more than it gains.
"""

import numpy as np
import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Context, Drawing, Proposal, Rule, Skip
from attn_export.exporter.graph.facts import GATE_ACTIVATIONS, dims, is_op, is_pooled, made_by, other_input


def at(node: ir.Node, context: Context) -> Proposal:
    """See the module."""
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
        return Skip("height and width aren't fixed")
    if (height, width) == (1, 1):
        return None
    if not is_op(source.producer(), *BLOCKED):
        return Skip("its map isn't in the blocked layout")
    if context.opset < FIRST_OPSET:
        return Skip(f"opset {context.opset} has no Resize without a region")
    drawing, old = Drawing(), node.outputs[0]
    scales = drawing.constant(np.array([1, 1, height, width], dtype=np.float32), f"to_{height}x{width}")
    whole = drawing.add(
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
    return drawing.rewrite((source, gate), old, drawing.add("Mul", source, whole, shape=old.shape, like=old))


# What ONNX Runtime computes in its blocked layout, alone or as a convolution's activation.
BLOCKED = ("Conv", "Relu", "Clip", "Add", "MaxPool", "AveragePool", "Concat")
FIRST_OPSET = 13
RULE = Rule("bring the gate to its map's size", frozenset({"Mul"}), at)
