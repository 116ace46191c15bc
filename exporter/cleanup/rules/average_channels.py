"""For integers on ONNX Runtime: the mean over the channels -> a convolution.

Before:
    m = ReduceMean(x, [1])                                   # (N, 1, H, W)

After:
    m = Conv(x, w)                                           # w: (1, C, 1, 1), all 1 / C

ONNX Runtime has convolutions of integers, with weights that are exact here, and no mean of them.

Skips: an unknown number of channels.
"""

import numpy as np
import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule
from attn_export.exporter.graph.facts import attribute, axes_of, dims


def _match(node: ir.Node, _context: Context) -> MatchResult:
    source = node.inputs[0]
    shape = dims(source)
    if (
        source is None
        or shape is None
        or len(shape) != 4
        or axes_of(node) != (1,)
        or not attribute(node, "keepdims", 1)
    ):
        return None
    channels = shape[1]
    if not isinstance(channels, int):
        return None
    builder, dtype = Builder(), source.dtype.numpy() if source.dtype is not None else np.float32
    share = builder.constant(np.full((1, channels, 1, 1), 1 / channels, dtype), f"share_{channels}")
    return builder.last(node, (source,), "Conv", source, share, kernel_shape=[1, 1])


RULE = Rule("average channels by a convolution", frozenset({"ReduceMean"}), _match, recomputes_constants=True)
