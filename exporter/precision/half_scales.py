"""Scales that float16 holds, for quantized graphs that compute in float16 between their quantized layers."""

from dataclasses import replace

import numpy as np

from attn_export.exporter.precision.int8.ranges import Weights
from attn_export.exporter.precision.int8.sweep import Sweep
from attn_export.exporter.records.arrays import Array

SMALLEST = float(np.finfo(np.float16).smallest_subnormal)


def with_half_scales(found: Sweep) -> None:
    """Round all scales to float16, and the weights to multiples of the new ones, in place.

    A scale stays positive, as TensorRT requires: weights of a channel whose scale is below float16's smallest number
    become small multiples of that.
    """
    for value, chosen in found.ranges.items():
        found.ranges[value] = replace(chosen, grid=replace(chosen.grid, scale=float(_half(chosen.grid.scale))))
    for layer, weights in found.weights.items():
        scales = _half(weights.scales)
        shape = [-1 if i == weights.axis else 1 for i in range(weights.integers.ndim)]
        steps = weights.integers.astype(np.float32) * (weights.scales / scales).reshape(shape)
        kind = weights.integers.dtype
        if kind == np.int8:
            steps = np.clip(np.rint(steps), -127, 127)
        found.weights[layer] = Weights(steps.astype(kind), scales, weights.axis)


def _half(scales: Array | float) -> Array:
    """The next float16 that isn't smaller, so that nothing is clipped."""
    near = np.asarray(np.maximum(np.float32(scales), SMALLEST), np.float16)
    return np.asarray(np.where(near < scales, np.nextafter(near, np.float16(np.inf)), near), np.float32)
