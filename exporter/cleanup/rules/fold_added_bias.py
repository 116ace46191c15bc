"""A constant for each channel that is added to a convolution's result -> the convolution's bias.

Before:
    y = Add(Conv(x, weight, bias), constant)                 # (1, C, 1, 1) or (C, 1, 1)

After:
    y = Conv(x, weight, bias + constant)

Paddle2ONNX writes biases so. Computed in float64 and rounded once.

Skips: a convolution with other readers, weights that aren't constant or may be overridden. A single number is left
alone: it belongs to a hard sigmoid in parts.
"""

import numpy as np
import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule, Skip
from attn_export.exporter.graph.facts import (
    attributes_of,
    constant,
    dims,
    is_overridable,
    is_read_once,
    made_by,
    name_of,
)
from attn_export.exporter.records.arrays import Array


def _match(node: ir.Node, context: Context) -> MatchResult:
    result, added = node.inputs
    if made_by(result, "Conv") is None:
        result, added = added, result
    convolution = made_by(result, "Conv")
    number = constant(added)
    if convolution is None or result is None or number is None:
        return None
    if not is_read_once(result):
        return Skip("the convolution's result has other readers")
    source, weight, *rest = convolution.inputs
    bias_value = rest[0] if rest else None
    bias = constant(bias_value) if bias_value is not None else np.zeros(1, number.dtype)
    sizes = dims(weight)
    if source is None or bias is None or sizes is None or is_overridable(added):
        return Skip("the convolution's weights aren't constant")
    if not _is_for_channels(number, len(sizes), sizes[0]):
        return None
    builder = Builder()
    total = (bias.astype(np.float64) + number.reshape(-1).astype(np.float64)).astype(number.dtype)
    shift = builder.constant(total, name_of(bias_value if bias_value is not None else added, "bias"))
    return builder.last(node, (source,), "Conv", source, weight, shift, **attributes_of(convolution))


def _is_for_channels(number: Array, rank: int, channels: object) -> bool:
    """Whether there is one number for each channel: axis 1 of (N, C, ...)."""
    shape = (*(1,) * (rank - number.ndim), *number.shape)
    return shape == (1, channels, *(1,) * (rank - 2)) and (number.size > 1 or number.ndim == rank)


RULE = Rule("fold the added bias", frozenset({"Add"}), _match, recomputes_constants=True)
