"""For TensorRT: Concat of the spatial gate's two channel reductions -> Where.

Before:
    s = Concat(ReduceMean(x, [1]), ReduceMax(x, [1]), axis=1)        # each (N, 1, H, W), in either order

After:
    s = Where([yes, no], ReduceMean(x, [1]), ReduceMax(x, [1]))      # the condition is (1, 2, 1, 1)

Where is pointwise: TensorRT fuses it with both reductions and the channel gate's product before them, while a Concat
ends a kernel (docs/cleanup.md). The result is exact.

Skips: everything but two reductions over the channels.
"""

import numpy as np
import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule
from attn_export.exporter.graph.facts import attribute, axes_of, dims, is_read_once, made_by


def _match(node: ir.Node, context: Context) -> MatchResult:
    if len(node.inputs) != 2 or attribute(node, "axis", None) not in (1, -3) or len(dims(node.outputs[0]) or ()) != 4:
        return None
    reductions = [made_by(value, "ReduceMean", "ReduceMax") for value in node.inputs]
    for value, reduction in zip(node.inputs, reductions, strict=True):
        if reduction is None or value is None or axes_of(reduction) != (1,) or not attribute(reduction, "keepdims", 1):
            return None
        if not is_read_once(value):
            return None
    first, second = node.inputs
    assert first is not None
    assert second is not None
    builder = Builder()
    yes_no = builder.constant(np.array([True, False]).reshape(1, 2, 1, 1), "first_of_two")
    return builder.last(node, (first, second), "Where", yes_no, first, second)


RULE = Rule("select the summaries", frozenset({"Concat"}), _match)
