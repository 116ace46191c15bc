"""Cross-layer equalization: channels between two convolutions get ranges of like size.

An activation has one scale for all its channels, and a depthwise convolution hardly mixes them, so a channel with small
values loses most of its steps. Dividing what the first convolution computes for a channel, and multiplying what the
second reads of it, changes nothing else, if the function between them is positively homogeneous (ReLU, LeakyReLU; not
ReLU6, Hard Swish or SiLU). Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
https://arxiv.org/abs/1906.04721, section 4.1. Here the first range is that of the activation on the calibration images,
because weights have a scale for each channel anyway, and factors are powers of two, so the float32 network stays the
same bit for bit.
"""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from attn_export.exporter.graph.facts import attribute, constant, is_op, is_read_once, made_by, only_user
from attn_export.exporter.graph.names import names_in, unique_name
from attn_export.exporter.records.arrays import Array

LARGEST = 8  # the largest power of two; more would be a channel that is hardly ever used


def equalize(model: ir.Model, peaks: Mapping[str, Array]) -> int:
    """Equalize pairs of which one is a depthwise convolution, in place.

    ``peaks`` are the largest magnitudes of each channel of a tensor on the calibration images, (channels,).

    Returns:
        The number of pairs whose weights changed.
    """
    changed = 0
    for second in [node for node in model.graph if is_op(node, "Conv")]:
        peak = peaks.get(str(second.inputs[0].name)) if second.inputs[0] is not None else None
        first = _before(second)
        if first is None or peak is None or not (_is_depthwise(first) or _is_depthwise(second)):
            continue
        factors = _factors(second, peak)
        if (factors != 1).any():
            _scale(model.graph, first, 1, 0, 1 / factors)
            _scale(model.graph, first, 2, 0, 1 / factors)
            _scale(model.graph, second, 1, 0 if _is_depthwise(second) else 1, factors)
            changed += 1
    return changed


def _before(second: ir.Node) -> ir.Node | None:
    """The convolution whose output alone a convolution reads, with at most a ReLU between them."""
    value = second.inputs[0]
    between = made_by(value, "Relu", "LeakyRelu")
    if value is None or only_user(value) is not second:
        return None
    first = made_by(between.inputs[0] if between is not None else value, "Conv")
    if first is None or (between is not None and only_user(first.outputs[0]) is not between):
        return None
    grouped = attribute(second, "group", 1) != 1 and not _is_depthwise(second)
    return first if not grouped and all(_is_own(node, i) for node, i in ((first, 1), (first, 2), (second, 1))) else None


def _is_own(node: ir.Node, index: int) -> bool:
    """Whether a weight is a float32 constant that only this node reads, or left out."""
    value = node.inputs[index] if index < len(node.inputs) else None
    weights = constant(value)
    return value is None or (weights is not None and weights.dtype == np.float32 and is_read_once(value))


def _is_depthwise(node: ir.Node) -> bool:
    weights = constant(node.inputs[1])
    return weights is not None and attribute(node, "group", 1) == len(weights) > 1 and weights.shape[1] == 1


def _factors(second: ir.Node, peak: Array) -> Array:
    """What each channel's activation is divided by, a power of two; 1 for a channel of zeros.

    All channels get the same range where the second convolution keeps them apart, and has a scale for each. Otherwise
    half of a difference moves into its weights.
    """
    if _is_depthwise(second):
        ratio = peak / peak.max(initial=0) if peak.any() else peak
    else:
        weights = np.abs(np.asarray(constant(second.inputs[1]))).max(axis=(0, *range(2, _rank(second))))
        ratio = np.sqrt(np.divide(peak, weights, out=np.zeros_like(peak), where=weights > 0))
        ratio = ratio / np.median(ratio[ratio > 0]) if (ratio > 0).any() else ratio
    powers = np.rint(np.log2(np.where(ratio > 0, ratio, 1)))
    return np.exp2(np.clip(powers, -LARGEST, LARGEST)).astype(np.float32)


def _rank(node: ir.Node) -> int:
    return np.asarray(constant(node.inputs[1])).ndim


def _scale(graph: ir.Graph, node: ir.Node, index: int, axis: int, factors: Array) -> None:
    weights = constant(node.inputs[index]) if index < len(node.inputs) else None
    if weights is None:
        return
    shape = [-1 if i == axis else 1 for i in range(weights.ndim)]
    name = unique_name(f"{node.name}.equalized", names_in(graph))
    tensor = ir.Tensor(np.asarray(weights) * factors.reshape(shape), name=name)
    value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    node.replace_input_with(index, value)
