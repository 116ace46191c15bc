"""For ONNX Runtime: repeats a spatial gate for every channel.

Before:
    y = Mul(x, gate)                                         # gate: (N, 1, H, W), broadcast

After:
    y = Mul(x, Conv(gate, ones))                             # ones: (C, 1, 1, 1)

The convolution writes the gate in ONNX Runtime's blocked layout, in which the product can then stay; a broadcasting
product can't (see `resize_gate`; figures in docs/cleanup.md).

Skips: dynamic H and W.
"""

import numpy as np
import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule, Skip
from attn_export.exporter.graph.facts import GATE_ACTIVATIONS, dims, made_by, other_input


def _match(node: ir.Node, context: Context) -> MatchResult:
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
            return Skip("H and W are dynamic")
        builder = Builder()
        dtype = gate.dtype.numpy() if gate.dtype is not None else np.float32
        ones = builder.constant(np.ones((whole[1], 1, 1, 1), dtype=dtype), f"ones_{whole[1]}")
        repeated = builder.add("Conv", gate, ones, shape=(shape[0], *whole[1:]), like=gate, kernel_shape=[1, 1])
        return builder.last(node, (source, gate), "Mul", source, repeated)
    return None


RULE = Rule("repeat the spatial gate", frozenset({"Mul"}), _match)
