"""Weights that a BatchNorm in training mode standardizes -> the standardized weights.

Before:
    y = Reshape(BatchNormalization(weight, gain, shift, ..., training_mode=1), shape)     # weight: (1, C, n)

After:
    y = a constant

Computed in float64 and rounded once. Brock et al.: "High-Performance Large-Scale Image Recognition Without
Normalization", https://arxiv.org/abs/2102.06171.

Skips: parameters that aren't constant or may be overridden; statistics that are read.
"""

import numpy as np
import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rewrite, Rule
from attn_export.exporter.graph.facts import attribute, constant, dims, made_by, name_of


def _match(node: ir.Node, context: Context) -> MatchResult:
    norm, shape = made_by(node.inputs[0], "BatchNormalization"), dims(node.outputs[0])
    if norm is None or not attribute(norm, "training_mode", 0) or any(map(_is_read, norm.outputs[1:])):
        return None
    weight, gain, shift = (constant(value) for value in norm.inputs[:3])
    if weight is None or gain is None or shift is None or shape is None:
        return None
    axes, channels = (0, *range(2, weight.ndim)), (-1, *(1,) * (weight.ndim - 2))
    wide = weight.astype(np.float64)
    centred = wide - wide.mean(axes, keepdims=True)
    deviation = np.sqrt(np.square(centred).mean(axes, keepdims=True) + attribute(norm, "epsilon", 1e-5))
    array = centred / deviation * gain.reshape(channels) + shift.reshape(channels)
    array = array.astype(weight.dtype).reshape([size for size in shape if isinstance(size, int)])
    return Rewrite((), node.outputs[0], Builder().constant(array, name_of(norm.inputs[0])))


def _is_read(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


RULE = Rule("standardize weights", frozenset({"Reshape"}), _match, recomputes_constants=True)
