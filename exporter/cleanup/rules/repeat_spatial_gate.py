"""For ONNX Runtime: a spatial gate repeated for every channel.

Before:
    y = Mul(x, gate)                                         # gate: (N, 1, H, W), broadcast

After:
    y = Mul(x, Conv(gate, ones))                             # ones: (C, 1, 1, 1)

The convolution writes the gate for all channels in ONNX Runtime's blocked layout, in which both factors then are; as a
broadcast the multiplication would leave it (see `resize_gate`, and docs/cleanup.md for the figures).

Kept away from: maps whose H and W aren't known.
"""

import numpy as np
import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Context, Drawing, Proposal, Rule, Skip
from attn_export.exporter.graph.facts import GATE_ACTIVATIONS, dims, made_by, other_input


def at(node: ir.Node, context: Context) -> Proposal:
    """See the module."""
    for gate in node.inputs:
        shape = dims(gate)
        if (
            gate is None
            or shape is None
            or len(shape) != 4
            or shape[1] != 1
            or made_by(gate, *GATE_ACTIVATIONS) is None
        ):
            continue
        source = other_input(node, gate)
        whole = dims(source)
        if source is None or whole is None or len(whole) != 4 or whole[1] == 1 or not isinstance(whole[1], int):
            continue
        if not all(isinstance(size, int) for size in whole[1:]) or shape[2:] != whole[2:]:
            return Skip("height and width aren't fixed")
        drawing, old = Drawing(), node.outputs[0]
        dtype = gate.dtype.numpy() if gate.dtype is not None else np.float32
        ones = drawing.constant(np.ones((whole[1], 1, 1, 1), dtype=dtype), f"ones_{whole[1]}")
        repeated = drawing.add("Conv", gate, ones, shape=(shape[0], *whole[1:]), like=gate, kernel_shape=[1, 1])
        return drawing.rewrite((source, gate), old, drawing.add("Mul", source, repeated, shape=old.shape, like=old))
    return None


RULE = Rule("repeat the spatial gate", frozenset({"Mul"}), at)
