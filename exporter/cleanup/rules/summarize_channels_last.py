"""For ONNX Runtime: reduces the channels for a spatial gate in channels-last layout.

Before:
    s = Concat(ReduceMean(x, [1]), ReduceMax(x, [1]), axis=1)        # (N, 2, H, W), in either order

After:
    t = Reshape(Transpose(x, [0, 2, 3, 1]), [0, H * W, C])
    s = Reshape(Concat(ReduceMean(t, [2]), ReduceMax(t, [2]), axis=1), [0, 2, H, W])

A reduction over the contiguous axis is several times as fast. The transposition is free: it is how the map leaves ONNX
Runtime's blocked layout. The Reshape stops its optimizer from reverting this.

Skips: dynamic H and W.
"""

import numpy as np
import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule, Skip
from attn_export.exporter.graph.facts import attribute, axes_of, dims, is_read_once, made_by


def _match(node: ir.Node, context: Context) -> MatchResult:
    if len(node.inputs) != 2 or attribute(node, "axis", None) not in (1, -3):
        return None
    reductions = [made_by(value, "ReduceMean", "ReduceMax") for value in node.inputs]
    if any(r is None or axes_of(r) != (1,) or not attribute(r, "keepdims", 1) for r in reductions):
        return None
    first, second = reductions
    assert first is not None
    assert second is not None
    source, shape = first.inputs[0], dims(first.inputs[0])
    if source is None or shape is None or len(shape) != 4 or source is not second.inputs[0]:
        return None
    if not all(value is not None and is_read_once(value) for value in node.inputs):
        return Skip("a summary has other readers")
    batch, channels, height, width = shape
    if not isinstance(channels, int) or not isinstance(height, int) or not isinstance(width, int):
        return Skip("H and W are dynamic")
    places = height * width
    builder = Builder()
    nhwc = builder.add("Transpose", source, shape=(batch, height, width, channels), like=source, perm=[0, 2, 3, 1])
    listed = builder.constant(np.array([0, places, channels], dtype=np.int64), f"shape_0x{places}x{channels}")
    flat = builder.add("Reshape", nhwc, listed, shape=(batch, places, channels), like=source)
    summaries = [
        builder.reduce(
            reduction.op_type.removeprefix("Reduce"),
            flat,
            (2,),
            opset=context.opset,
            keepdims=False,
            shape=(batch, places),
        )
        for reduction in (first, second)
    ]
    both = builder.add("Concat", *summaries, shape=(batch, 2 * places), like=source, axis=1)
    mapped = builder.constant(np.array([0, 2, height, width], dtype=np.int64), f"shape_0x2x{height}x{width}")
    return builder.last(node, (source,), "Reshape", both, mapped)


RULE = Rule("summarize channels last", frozenset({"Concat"}), _match)
