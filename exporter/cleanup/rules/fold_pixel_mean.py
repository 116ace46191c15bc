"""The mean that is subtracted from each channel before an unpadded first convolution -> the convolution's bias.

Before:
    y = Conv(x - mean, weight, bias)                         # mean: (1, C, 1, 1) or (C, 1, 1); no padding

After:
    y = Conv(x, weight, bias - sum(weight * mean))           # over input channels and the kernel

Computed in float64 and rounded once.

Skips: padding. It puts zeros, not means, around the image, and what the bias then subtracts was never added. Also an
image with other readers, a convolution with groups, weights that aren't constant or may be overridden.
"""

import numpy as np
import onnx_ir as ir

from attn_export.exporter.cleanup.pixels import first_convolution, of_channels, with_inputs
from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule, Skip
from attn_export.exporter.graph.facts import attribute, name_of


def _match(node: ir.Node, context: Context) -> MatchResult:
    found = first_convolution(node, "Sub")
    if found is None or isinstance(found, Skip):
        return found
    image, number = found.before.inputs
    mean = of_channels(number, found.weight.shape[1])
    if image is None or mean is None:
        return None
    if any(attribute(node, "pads", ())) or attribute(node, "auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER"):
        return Skip("the convolution pads with zeros, and the image's mean isn't 0")
    kernels = found.weight.astype(np.float64).sum(tuple(range(2, found.weight.ndim)))
    bias = (found.bias.astype(np.float64) if found.bias is not None else 0) - kernels @ mean
    builder, old = Builder(), node.inputs[2] if len(node.inputs) > 2 else None
    folded = builder.constant(bias.astype(found.weight.dtype), name_of(old, "bias"))
    return with_inputs(node, builder, image, node.inputs[1], folded)


RULE = Rule("fold the pixels' mean", frozenset({"Conv"}), _match, recomputes_constants=True)
