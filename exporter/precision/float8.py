"""float8 (E4M3): one scale for each quantized activation, one for each channel of the weights.

Layers and tensors are those of int8 in TensorRT's form. Steps of a floating-point type are relative: a range that is
too wide costs nothing as long as small values stay normal, so the largest value decides alone, and biases aren't
corrected.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from attn_export.exporter.artifacts import ParsedFile
from attn_export.exporter.errors import InputError
from attn_export.exporter.graph.facts import constant, is_op
from attn_export.exporter.precision.int8.choose import Trial, Work
from attn_export.exporter.precision.int8.placement import Choices, Placement, place, weight_axis
from attn_export.exporter.precision.int8.ranges import Grid, Method, Range, Weights
from attn_export.exporter.precision.int8.sweep import Recipe, Sweep
from attn_export.exporter.precision.ranges import largest_values
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.verdict import Quality

E4M3 = np.dtype(ml_dtypes.float8_e4m3fn)
LARGEST = 448
# TensorRT-RTX 1.7 has no float8 kernels beyond: a 7x7 convolution between float8 tensors runs in float16 or float32.
LARGEST_FILTER = 32
TOO_LARGE = f"TensorRT has no float8 kernels for filters of more than {LARGEST_FILTER} places"


@dataclass(frozen=True)
class Float8Grid(Grid):
    """``scale * v`` for the values v of E4M3 (https://onnx.ai/onnx/technical/float8.html)."""

    @property
    def dtype(self) -> Any:
        """E4M3."""
        return E4M3

    def rounded(self, values: Array) -> Array:
        """The values, float32 of any shape, as they are after QuantizeLinear and DequantizeLinear."""
        scale = np.float32(self.scale)
        steps = np.clip(np.asarray(values, np.float32) / scale, self.low, self.high)
        result: Array = steps.astype(E4M3).astype(np.float32) * scale
        return result


def float8_trial(source: ParsedFile, choices: Choices, work: Work) -> Trial:
    """A quantization whose quality isn't known yet.

    Raises:
        InputError: ONNX Runtime can't run the graph on the images, or a value is NaN or infinite.
        UsageError: an excluded name is in no node, or no layer is left.
    """
    placement = _placed(source.model.graph, choices, work)
    with work.progress.stage("Measuring activations"):
        found = float8_sweep(placement, largest_values(source, work.feeds, work.threads))
    return Trial(source.model, placement, Recipe(Method.MINMAX, symmetric=True), found, Quality({}, None, 0))


def _placed(graph: ir.Graph, choices: Choices, work: Work) -> Placement:
    """The placement of int8, without the layers that TensorRT computes in floats all the same."""
    large = {str(node.name) for node in graph if is_op(node, "Conv", "ConvTranspose") and _area(node) > LARGEST_FILTER}
    placement = place(graph, work.blocks, replace(choices, exclude=(*choices.exclude, *sorted(large))))
    kept = tuple(replace(node, reason=TOO_LARGE) if node.node in large else node for node in placement.kept)
    return replace(placement, kept=kept)


def _area(layer: ir.Node) -> int:
    """The number of places that a filter covers."""
    weights = constant(layer.inputs[1])
    return 0 if weights is None else math.prod(weights.shape[2:])


def float8_sweep(placement: Placement, largest: Mapping[str, float]) -> Sweep:
    """Scales of activations and weights.

    ``largest`` are the largest absolute values on the calibration images.

    Raises:
        InputError: a value is NaN or infinite.
    """
    found = Sweep()
    for value in sorted(placement.values, key=lambda value: str(value.name)):
        size = largest[str(value.name)]
        if not np.isfinite(size):
            raise InputError(
                f"{value.name} is NaN or infinite on a calibration image",
                hint="Is the float32 file right on these images? attn-export validate compares it with its checkpoint.",
            )
        found.ranges[value] = Range(Float8Grid(_scale(size), 0, -LARGEST, LARGEST), -size, size, 1.0)
        found.sqnr[value] = None
    for layer in placement.layers:
        found.weights[layer], found.sqnr[layer] = _weights(layer), None
    return found


def _weights(layer: ir.Node) -> Weights:
    stored, axis = constant(layer.inputs[1]), weight_axis(layer)
    weights = np.asarray(stored, np.float32)
    others = tuple(i for i in range(weights.ndim) if i != axis)
    scales = np.array([_scale(float(size)) for size in np.abs(weights).max(axis=others)], np.float32)
    steps = weights / scales.reshape([-1 if i == axis else 1 for i in range(weights.ndim)])
    return Weights(np.clip(steps, -LARGEST, LARGEST).astype(E4M3), scales, axis)


def _scale(largest: float) -> float:
    """A scale as float32 holds it; 1 for zeros."""
    stored = float(np.float32(largest / LARGEST))
    return stored if stored > 0 else 1.0
