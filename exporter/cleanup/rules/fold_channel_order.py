"""The order of channels that is reversed (BGR) before the first convolution -> the order of the convolution's weights.

Before:
    y = Conv(x[:, ::-1], weight, bias)

After:
    y = Conv(x, weight[:, ::-1], bias)

No number changes. Skips: an image with other readers, a convolution with groups, weights that aren't constant or may be
overridden. Other slices than the whole axis of the channels, backwards, are left alone.
"""

import numpy as np
import onnx_ir as ir

from attn_export.exporter.cleanup.pixels import first_convolution, with_inputs
from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule, Skip
from attn_export.exporter.graph.facts import constant, name_of

BEFORE_ANY = -(2**31)  # of any number of channels


def _match(node: ir.Node, context: Context) -> MatchResult:
    found = first_convolution(node, "Slice")
    if found is None or isinstance(found, Skip):
        return found
    image = found.before.inputs[0]
    if image is None or not _reverses_channels(found.before):
        return None
    builder, bias = Builder(), node.inputs[2] if len(node.inputs) > 2 else None
    weight = builder.constant(np.ascontiguousarray(found.weight[:, ::-1]), name_of(node.inputs[1]))
    return with_inputs(node, builder, image, weight, bias)


def _reverses_channels(node: ir.Node) -> bool:
    """Whether a Slice returns the whole axis 1 backwards: starts at its end, stops before its start, step -1."""
    given = [constant(value) for value in node.inputs[1:]]
    if len(given) < 4 or any(array is None or array.size != 1 for array in given):
        return False
    start, end, axis, step = (int(array.reshape(-1)[0]) for array in given if array is not None)
    return (start, axis, step) == (-1, 1, -1) and end <= BEFORE_ANY


RULE = Rule("fold the order of channels", frozenset({"Conv"}), _match, recomputes_constants=True)
