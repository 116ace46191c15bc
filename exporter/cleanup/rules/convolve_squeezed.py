"""The linear layers of a channel gate -> 1x1 convolutions.

Before:
    h = Gemm(Flatten(pooled), weight, bias, transB=1)        # pooled: (N, C, 1, 1); or MatMul, and Add of a bias

After:
    h = Flatten(Conv(pooled, weight as (hidden, C, 1, 1), bias))

`sink_views` then moves the views below the gate's activations, where `merge_views` removes them. ONNX Runtime keeps
such a gate in its blocked layout; TensorRT fuses the activation with the convolution in both forms.

Skips: the layers of a classifier, weights that aren't constant.
"""

import numpy as np
import onnx_ir as ir

from attn_export.exporter.cleanup.gating import ends_in_gate
from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule, Skip
from attn_export.exporter.cleanup.views import reshape_like, source_of
from attn_export.exporter.graph.facts import attribute, constant, is_op, is_pooled, made_by, only_user, rank


def _match(node: ir.Node, context: Context) -> MatchResult:
    old = node.outputs[0]
    layer, bias_value = _layer(node)
    if layer is None or rank(layer.inputs[0]) != 2:
        return None
    pooled = source_of(layer.inputs[0])
    if pooled is layer.inputs[0] or not is_pooled(pooled) or pooled is None:
        return None
    weight, bias = constant(layer.inputs[1]), constant(bias_value)
    if weight is None or layer.inputs[1] is None or (bias_value is not None and bias is None):
        return Skip("the weights aren't constant")
    if attribute(layer, "transA", 0):
        return Skip("its input is transposed (transA)")
    if not ends_in_gate(old):
        return Skip("the result doesn't become a gate")
    matrix = weight if attribute(layer, "transB", 0) else weight.T  # (hidden, C)
    if weight.ndim != 2 or (
        bias is not None and bias.shape not in ((), (1,), (1, 1), (len(matrix),), (1, len(matrix)))
    ):
        return Skip("the weights aren't a matrix, or the bias isn't a vector")
    if (alpha := attribute(layer, "alpha", 1.0)) != 1.0:
        matrix = (matrix.astype(np.float64) * alpha).astype(weight.dtype)
    builder = Builder()
    inputs: list[ir.Value | None] = [
        pooled,
        builder.constant(np.ascontiguousarray(matrix).reshape(*matrix.shape, 1, 1), layer.inputs[1].name or "weight"),
    ]
    if bias is not None and bias_value is not None:
        scaled = (bias.astype(np.float64) * attribute(layer, "beta", 1.0)).astype(weight.dtype)
        full = np.ascontiguousarray(np.broadcast_to(scaled.reshape(-1), matrix.shape[:1]))
        inputs.append(builder.constant(full, bias_value.name or "bias"))
    convolved = builder.add(
        "Conv", *inputs, shape=((pooled.shape or [None])[0], matrix.shape[0], 1, 1), like=old, kernel_shape=[1, 1]
    )
    new = reshape_like(builder, convolved, old)
    if new is None:
        return Skip("the shape of the result is unknown")
    return builder.rewrite((pooled,), old, new)


def _layer(node: ir.Node) -> tuple[ir.Node | None, ir.Value | None]:
    """The node of the matrix product, and the bias: of a Gemm, a MatMul, or a MatMul and Add."""
    if is_op(node, "Gemm"):
        return node, node.inputs[2] if len(node.inputs) > 2 else None
    if is_op(node, "MatMul"):
        reader = only_user(node.outputs[0])
        biased = reader is not None and is_op(reader, "Add") and any(constant(v) is not None for v in reader.inputs)
        return (None, None) if biased else (node, None)
    for value, bias in (node.inputs[:2], node.inputs[1::-1]):
        product = made_by(value, "MatMul")
        if product is not None and value is not None and only_user(value) is node and constant(bias) is not None:
            return product, bias
    return None, None


RULE = Rule("convolve gate layers", frozenset({"Gemm", "MatMul", "Add"}), _match, recomputes_constants=True)
