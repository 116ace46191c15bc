"""Roundings of a layer's weights: each to its nearest integer, or together, so that the layer's output stays the same.

The squared error of a layer's output is quadratic in its weights, so the calibration images enter by second moments
only: of the quantized input with itself, and with the output that the float32 layer has for the float32 input. The
layer then makes up for the errors of its own input too ("asymmetric reconstruction", Nagel et al., "Up or Down?
Adaptive Rounding for Post-Training Quantization", https://arxiv.org/abs/2004.10568, section 3.4).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import onnx_ir as ir
from numpy.lib.stride_tricks import sliding_window_view

from attn_export.exporter.graph.facts import attribute, is_op
from attn_export.exporter.precision.int8.ranges import Weights
from attn_export.exporter.records.arrays import Array

# Output positions that the moments are taken from, at most, and weights whose moments still fit in memory.
POSITIONS = 16_384
WIDEST = 8192
# Pull towards the float32 weights, relative to the mean power of the inputs: a few images don't determine all weights.
DAMPING = 0.1
# Share of the input's own error that a layer makes up for. All of it fits the weights to the calibration images.
MADE_UP = 0.5
PASSES = 4
BLOCK = 128


class Rounding(str, Enum):
    """How weights are rounded."""

    NEAREST = "nearest"
    DESCENT = "descent"
    ADAROUND = "adaround"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Moments:
    """Second central moments of a layer. G groups, K weights for each output channel, O output channels in a group.

    Attributes:
        inputs: (G, K, K), of the input.
        outputs: (G, O, K), of the wanted output with the input.
    """

    inputs: Array
    outputs: Array


def moments(layer: ir.Node, inputs: Sequence[Array], outputs: Sequence[Array], kernel: Sequence[int]) -> Moments | None:
    """The moments of a layer.

    Inputs are quantized, outputs are those wanted, batch by batch; ``kernel`` is empty where it is no convolution.

    Returns:
        None for a layer whose output isn't written as columns times weights: ConvTranspose, automatic padding, a
        transposed input, or too many weights for each output channel.
    """
    groups = attribute(layer, "group", 1)
    width = inputs[0].shape[1 if kernel else -1] // groups * math.prod(kernel)
    automatic = attribute(layer, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    if not is_op(layer, "Conv", "Gemm", "MatMul") or automatic or attribute(layer, "transA", 0) or width > WIDEST:
        return None
    count, total, wanted_total, power, cross = 0, np.zeros(()), np.zeros(()), np.zeros(()), np.zeros(())
    for columns, wanted in _samples(layer, inputs, outputs, kernel):
        x = columns.reshape(len(columns), groups, -1).transpose(1, 2, 0)
        y = wanted.reshape(len(wanted), groups, -1).transpose(1, 2, 0)
        count, total, wanted_total = count + len(columns), total + _sums(x), wanted_total + _sums(y)
        power, cross = power + np.float64(x @ x.transpose(0, 2, 1)), cross + np.float64(y @ x.transpose(0, 2, 1))
    mean, wanted_mean = np.asarray(total / count), np.asarray(wanted_total / count)
    return Moments(
        power / count - mean * mean.transpose(0, 2, 1), cross / count - wanted_mean * mean.transpose(0, 2, 1)
    )


def _sums(columns: Array) -> Array:
    """The sum of each row, (G, K, P) to (G, K, 1)."""
    total: Array = columns.sum(axis=2, keepdims=True, dtype=np.float64)
    return total


def _samples(
    layer: ir.Node, inputs: Sequence[Array], outputs: Sequence[Array], kernel: Sequence[int]
) -> Iterator[tuple[Array, Array]]:
    """Pairs of what weights of one output are multiplied with, (P, G * K), and of outputs, (P, G * O)."""
    rng = np.random.default_rng(0)
    alpha = np.float32(attribute(layer, "alpha", 1.0)) if is_op(layer, "Gemm") else np.float32(1)
    total = sum(o.size // o.shape[1 if kernel else -1] for o in outputs)
    for x, y in zip(inputs, outputs, strict=True):
        if kernel:
            windows, y = _windows(layer, x, kernel), np.moveaxis(y, 1, -1)
        else:
            windows = x * alpha
        positions = y.shape[:-1]
        count = math.prod(positions)
        taken = np.sort(rng.choice(count, math.ceil(count * min(1, POSITIONS / total)), replace=False))
        where = np.unravel_index(taken, positions)
        yield windows[where].reshape(len(taken), -1), y[where]


def _windows(layer: ir.Node, x: Array, kernel: Sequence[int]) -> Array:
    """A view of what a convolution reads for each output: (N, *output size, C, *kernel)."""
    axes = len(kernel)
    pads = list(attribute(layer, "pads", [0] * 2 * axes))
    strides, dilations = (list(attribute(layer, name, [1] * axes)) for name in ("strides", "dilations"))
    x = np.pad(x, [(0, 0), (0, 0), *zip(pads[:axes], pads[axes:], strict=True)])
    reach = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    view = sliding_window_view(x, reach, axis=tuple(range(2, 2 + axes)))
    every = [slice(None)] * 2 + [slice(None, None, step) for step in (*strides, *dilations)]
    return np.moveaxis(view[tuple(every)], 1, axes + 1)


def by_descent(layer: ir.Node, weights: Array, nearest: Weights, found: Moments) -> Weights:
    """Weights rounded by coordinate descent, each to the integer that is best with all others as they are.

    Weights of zero, which a network was pruned to, stay zero. After each pass the scale of every channel is fitted by
    least squares. (Zhang et al., "COMQ: A Backpropagation-Free Algorithm for Post-Training Quantization",
    https://arxiv.org/abs/2403.07134, which starts from the same quadratic.)

    ``nearest`` are the weights rounded to the nearest integers.
    """
    groups = len(found.inputs)
    rows = as_matrix(layer, weights, groups)
    power, target = damped(found, rows)
    integers = as_matrix(layer, nearest.integers, groups).astype(np.float64)
    scales = nearest.scales.astype(np.float64).reshape(groups, -1, 1)
    for _ in range(PASSES):
        before = integers.copy()
        _descend(integers, rows != 0, power, target / scales)
        step = (integers * target).sum(2, keepdims=True)
        size = ((integers @ power) * integers).sum(2, keepdims=True)
        scales = np.where((step > 0) & (size > 0), step / np.where(size > 0, size, 1), scales)
        if np.array_equal(before, integers):
            break
    return Weights(
        from_matrix(layer, integers, weights.shape).astype(np.int8),
        scales.reshape(-1).astype(np.float32),
        nearest.axis,
    )


def damped(found: Moments, weights: Array) -> tuple[Array, Array]:
    """The moments with a pull towards the float32 weights, (G, O, K): (G, K, K) and (G, O, K), float64."""
    power = found.inputs.copy()
    index = np.arange(power.shape[1])
    pull = DAMPING * power[:, index, index].mean(1) + np.finfo(np.float32).tiny
    power[:, index, index] += pull[:, None]
    target = MADE_UP * found.outputs + (1 - MADE_UP) * (weights @ found.inputs)
    return power, target + pull[:, None, None] * weights


def _descend(integers: Array, free: Array, power: Array, target: Array) -> None:
    """One pass over all free weights, in place; blocks of them, so that most of the work is one product."""
    rest = target - integers @ power
    for start in range(0, power.shape[1], BLOCK):
        block = slice(start, start + BLOCK)
        before = integers[:, :, block].copy()
        near, own = rest[:, :, block].copy(), power[:, block, block]
        for k in range(own.shape[1]):
            old = integers[:, :, start + k].copy()
            best = np.clip(np.rint(old + near[:, :, k] / own[:, k, k, None]), -127, 127)
            integers[:, :, start + k] = best = np.where(free[:, :, start + k], best, old)
            near -= (best - old)[:, :, None] * own[:, None, k]
        rest -= (integers[:, :, block] - before) @ power[:, block]


def as_matrix(layer: ir.Node, weights: Array, groups: int) -> Array:
    """Weights as (G, O, K)."""
    rows = weights if is_op(layer, "Conv") or attribute(layer, "transB", 0) else weights.T
    return rows.reshape(groups, len(rows) // groups, -1)


def from_matrix(layer: ir.Node, matrix: Array, shape: Sequence[int]) -> Array:
    """Weights of their own shape from (G, O, K)."""
    if is_op(layer, "Conv") or attribute(layer, "transB", 0):
        return matrix.reshape(shape)
    return np.ascontiguousarray(matrix[0].T)
