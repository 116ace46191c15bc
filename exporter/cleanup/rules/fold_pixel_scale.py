"""The scale of each channel before the first convolution -> the convolution's weights.

Before:
    y = Conv(x * scale, weight, bias)                        # scale: (1, C, 1, 1) or (C, 1, 1)

After:
    y = Conv(x, weight * scale, bias)                        # along the input channels

Padding with zeros stays as it is: 0 * scale = 0. Computed in float64 and rounded once.

Skips: an image with other readers, a convolution with groups, weights that aren't constant or may be overridden.
"""

import numpy as np
import onnx_ir as ir

from attn_export.exporter.cleanup.pixels import first_convolution, of_channels, with_inputs
from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule, Skip
from attn_export.exporter.graph.facts import constant, name_of


def _match(node: ir.Node, context: Context) -> MatchResult:
    found = first_convolution(node, "Mul")
    if found is None or isinstance(found, Skip):
        return found
    image, number = found.before.inputs
    if constant(image) is not None:
        image, number = number, image
    scale = of_channels(number, found.weight.shape[1])
    if image is None or scale is None:
        return None
    factors = scale.reshape(-1, *(1,) * (found.weight.ndim - 2))
    weight = (found.weight.astype(np.float64) * factors).astype(found.weight.dtype)
    builder, bias = Builder(), node.inputs[2] if len(node.inputs) > 2 else None
    return with_inputs(node, builder, image, builder.constant(weight, name_of(node.inputs[1])), bias)


RULE = Rule("fold the pixels' scale", frozenset({"Conv"}), _match, recomputes_constants=True)
