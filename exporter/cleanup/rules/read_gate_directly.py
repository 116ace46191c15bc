"""For integers on ONNX Runtime: reads a gate without repeating it for its map.

Before:
    y = Mul(x, Resize(gate, scales=[1, 1, H, W]))            # gate: (N, C, 1, 1)
    y = Mul(x, Conv(gate, ones))                             # gate: (N, 1, H, W), ones: (C, 1, 1, 1)

After:
    y = Mul(x, gate)                                         # broadcast

Both repetitions are for float32 maps (`resize_gate`, `repeat_spatial_gate`). Integer maps aren't in a blocked layout,
their product broadcasts as fast, and reads less.
"""

import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule
from attn_export.exporter.graph.facts import constant, dims, is_pooled, made_by, other_input


def _match(node: ir.Node, _context: Context) -> MatchResult:
    for whole in node.inputs:
        repeat = made_by(whole, "Resize", "Conv")
        gate = repeat.inputs[0] if repeat is not None else None
        source = other_input(node, whole) if whole is not None else None
        if repeat is None or gate is None or source is None or (dims(source) or ())[1:] != (dims(whole) or ())[1:]:
            continue
        if _repeats_channels(repeat) if repeat.op_type == "Conv" else is_pooled(gate):
            return Builder().last(node, (source, gate), "Mul", source, gate)
    return None


def _repeats_channels(conv: ir.Node) -> bool:
    weights = constant(conv.inputs[1])
    return (
        weights is not None and weights.shape[1:] == (1, 1, 1) and bool((weights == 1).all()) and len(conv.inputs) < 3
    )


RULE = Rule("read the gate directly", frozenset({"Mul"}), _match)
