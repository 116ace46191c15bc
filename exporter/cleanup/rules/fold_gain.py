"""A number that multiplies a convolution's input or result -> the convolution's weights.

Before:
    y = Conv(x * 0.98, weight, bias) * 0.2

After:
    y = Conv(x, weight * 0.98 * 0.2, bias * 0.2)

As in NFNets. Padding with zeros stays as it is: 0 * 0.98 = 0. Computed in float64 and rounded once.

Skips: what other nodes read, weights that aren't constant or may be overridden.
"""

import numpy as np
import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule, Skip
from attn_export.exporter.graph.attention.activations import unscaled
from attn_export.exporter.graph.facts import (
    attributes_of,
    constant,
    is_op,
    is_read_once,
    made_by,
    name_of,
    other_input,
    scalar,
)
from attn_export.exporter.records.arrays import Array


def _match(node: ir.Node, context: Context) -> MatchResult:
    scaled = node.inputs[0] if is_op(node, "Conv") else node.outputs[0]
    source, product = unscaled(scaled)
    number = scalar(other_input(product[0], source)) if product and source is not None else None
    convolution = node if is_op(node, "Conv") else made_by(source, "Conv")
    if scaled is None or source is None or number is None or convolution is None:
        return None
    factor = number if is_op(product[0], "Mul") else 1 / number if number else np.inf
    given, weight, bias = (*convolution.inputs, None)[:3]
    if not is_read_once(scaled if convolution is node else source):
        return Skip("what is multiplied has other readers")
    weights, shift = constant(weight), constant(bias)
    if weights is None or weight is None or len(weight.uses()) > 1 or (shift is None and bias is not None):
        return Skip("the convolution's weights aren't its own constants")
    builder = Builder()
    read = source if convolution is node else given
    tensors = [builder.constant(_times(weights, factor), name_of(weight))]
    if bias is not None and shift is not None:
        tensors.append(bias if convolution is node else builder.constant(_times(shift, factor), name_of(bias)))
    if read is None or not all(
        np.isfinite(tensor.const_value.numpy()).all() for tensor in tensors if tensor.const_value
    ):
        return Skip("the weights would be too large for their type")
    return builder.last(node, (read,), "Conv", read, *tensors, **attributes_of(convolution))


def _times(array: Array, factor: float) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return (array.astype(np.float64) * factor).astype(array.dtype)


RULE = Rule("fold the gain", frozenset({"Conv", "Mul", "Div"}), _match, recomputes_constants=True)
