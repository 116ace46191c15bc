"""BatchNorm after a convolution -> folded into the convolution.

Before:
    y = BatchNormalization(Conv(x, weight, bias), scale, shift, mean, variance)

After:
    y = Conv(x, weight * s, (bias - mean) * s + shift)       # s = scale / sqrt(variance + epsilon)

Computed in float64 and rounded once. Ioffe and Szegedy: "Batch Normalization", https://arxiv.org/abs/1502.03167.

Skips: training mode, a convolution with other readers, parameters that aren't constant or may be overridden. Other
convolutions keep shared weights; this one gets a copy.
"""

import numpy as np
import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule, Skip
from attn_export.exporter.graph.facts import attribute, attributes_of, constant, is_overridable, is_read_once, made_by


def _match(node: ir.Node, context: Context) -> MatchResult:
    convolution = made_by(node.inputs[0], "Conv")
    if convolution is None or node.inputs[0] is None:
        return None
    if attribute(node, "training_mode", 0) or len(node.outputs) > 1:
        return Skip("BatchNorm is in training mode")
    if not is_read_once(node.inputs[0]):
        return Skip("the convolution's result has other readers")
    source, weight_value, *rest = convolution.inputs
    bias_value = rest[0] if rest else None
    weight, parameters = constant(weight_value), [constant(value) for value in node.inputs[1:5]]
    bias = constant(bias_value) if bias_value is not None else np.zeros(1)
    if any(is_overridable(value) for value in (*convolution.inputs, *node.inputs)):
        return Skip("the weights are graph inputs, which callers may override")
    if source is None or weight_value is None or weight is None or bias is None:
        return Skip("the convolution's weights aren't constant")
    if any(array is None for array in parameters):
        return Skip("the BatchNorm parameters aren't constant")
    scale, shift, mean, variance = (np.asarray(array, dtype=np.float64) for array in parameters)
    factor = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    folded = weight.astype(np.float64) * factor.reshape(-1, *(1,) * (weight.ndim - 1))
    shifted = (bias.astype(np.float64) - mean) * factor + shift
    largest = float(ir.DataType.from_numpy(weight.dtype).max)
    if not max(float(np.abs(folded).max(initial=0)), float(np.abs(shifted).max(initial=0))) <= largest:
        return Skip(f"the folded weights are too large for {weight.dtype}")
    builder = Builder()
    name = weight_value.name or "weight"
    shift_name = (
        bias_value.name if bias_value is not None and bias_value.name else f"{name.removesuffix('.weight')}.bias"
    )
    tensors = [
        builder.constant(folded.astype(weight.dtype), name),
        builder.constant(shifted.astype(weight.dtype), shift_name),
    ]
    return builder.last(node, (source,), "Conv", source, *tensors, **attributes_of(convolution))


RULE = Rule("fold BatchNorm", frozenset({"BatchNormalization"}), _match, recomputes_constants=True)
