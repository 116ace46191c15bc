"""Ranges of quantized tensors: minimum and maximum, a percentile, or the range with the least squared error."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from attn_export.exporter.errors import InputError
from attn_export.exporter.records.arrays import Array

BINS = 4096
# Shares of the range that are tried for the least squared error.
SHARES = np.linspace(1.0, 0.3, 71)
PERCENTILE = 99.99


class Method(str, Enum):
    """How a range is chosen."""

    MSE = "mse"
    MINMAX = "minmax"
    PERCENTILE = "percentile"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Grid:
    """The values that an integer type represents: ``scale * (q - zero_point)`` for q in ``low..high``.

    As defined by ONNX's QuantizeLinear (https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html).
    """

    scale: float
    zero_point: int
    low: int
    high: int

    @property
    def dtype(self) -> Any:
        """The integers' type."""
        return np.dtype(np.int8 if self.low else np.uint8)

    def rounded(self, values: Array) -> Array:
        """The values, float32 of any shape, as they are after QuantizeLinear and DequantizeLinear."""
        scale = np.float32(self.scale)
        steps = np.rint(np.asarray(values, np.float32) / scale) + np.float32(self.zero_point)
        result: Array = (np.clip(steps, self.low, self.high) - np.float32(self.zero_point)) * scale
        return result


@dataclass(frozen=True)
class Range:
    """A chosen range: the grid, what was measured, and the share of it that the grid represents."""

    grid: Grid
    low: float
    high: float
    share: float


def grid_of(low: float, high: float, *, symmetric: bool) -> Grid:
    """int8 with zero point 0 if symmetric, as TensorRT requires; otherwise uint8. Both represent 0 exactly."""
    if symmetric:
        largest = max(abs(low), abs(high))
        return Grid(_step(largest / 127), 0, -128, 127)
    low, high = min(low, 0.0), max(high, 0.0)
    scale = _step((high - low) / 255)
    return Grid(scale, int(np.clip(np.rint(-low / scale), 0, 255)), 0, 255)


def choose(name: str, values: Sequence[Array], method: Method, *, symmetric: bool) -> Range:
    """The range of a tensor.

    ``symmetric`` is int8 with zero point 0 instead of uint8.

    Raises:
        InputError: a value is NaN or infinite.
    """
    low, high = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    if not np.isfinite((low, high)).all():
        raise InputError(
            f"{name} is NaN or infinite on a calibration image",
            hint="Is the float32 file right on these images? attn-export validate compares it with its checkpoint.",
        )
    full = grid_of(low, high, symmetric=symmetric)
    if method is Method.MINMAX or low == high:
        return Range(full, low, high, 1.0)
    counts, edges = _histogram(values, low, high)
    share = _percentile_share(counts, edges) if method is Method.PERCENTILE else _best_share(counts, edges, symmetric)
    return Range(grid_of(low * share, high * share, symmetric=symmetric), low, high, share)


def _histogram(values: Sequence[Array], low: float, high: float) -> tuple[Array, Array]:
    edges = np.linspace(low, high, BINS + 1)
    counts = sum(np.histogram(v, BINS, (low, high))[0] for v in values)
    return np.asarray(counts, np.float64), edges


def _best_share(counts: Array, edges: Array, symmetric: bool) -> float:
    """The share of the range with the least squared error, rounding and clipping together."""
    middles = (edges[:-1] + edges[1:]) / 2
    low, high = float(edges[0]), float(edges[-1])
    errors = []
    for share in SHARES:
        grid = grid_of(low * share, high * share, symmetric=symmetric)
        clipped = np.clip(
            middles, (grid.low - grid.zero_point) * grid.scale, (grid.high - grid.zero_point) * grid.scale
        )
        # Within the range an error is uniform over a step; a bin's middle would only show where it happens to lie.
        errors.append(float(counts @ (np.square(middles - clipped) + (middles == clipped) * grid.scale**2 / 12)))
    return float(SHARES[int(np.argmin(errors))])


def _percentile_share(counts: Array, edges: Array) -> float:
    """The share of the range that holds `PERCENTILE` percent of the magnitudes."""
    magnitudes = np.abs((edges[:-1] + edges[1:]) / 2)
    order = np.argsort(magnitudes)
    reached = np.searchsorted(np.cumsum(counts[order]), PERCENTILE / 100 * counts.sum())
    return float(magnitudes[order][min(reached, len(order) - 1)] / max(abs(edges[0]), abs(edges[-1])))


def _step(scale: float) -> float:
    """A scale as float32 holds it; 1 for a tensor of zeros."""
    stored = float(np.float32(scale))
    return stored if stored > 0 and np.isfinite(1 / np.float32(stored)) else 1.0


@dataclass(frozen=True)
class Weights:
    """Weights of a layer as symmetric int8 of one scale for each output channel.

    Attributes:
        integers: int8, of the weights' shape, -127..127.
        scales: float32, one for each channel.
        axis: of the channels.
    """

    integers: Array
    scales: Array
    axis: int

    @property
    def rounded(self) -> Array:
        """The weights that the integers stand for, float32."""
        shape = [-1 if axis == self.axis else 1 for axis in range(self.integers.ndim)]
        result: Array = self.integers.astype(np.float32) * self.scales.reshape(shape)
        return result


def quantized_weights(weights: Array, axis: int) -> Weights:
    """Round weights, float32, to int8; the largest of each channel becomes 127 or -127."""
    others = tuple(i for i in range(weights.ndim) if i != axis)
    largest = np.abs(weights).max(axis=others)
    scales = np.array([_step(value / 127) for value in largest.astype(np.float64)], np.float32)
    shape = [-1 if i == axis else 1 for i in range(weights.ndim)]
    integers = np.clip(np.rint(weights / scales.reshape(shape)), -127, 127).astype(np.int8)
    return Weights(integers, scales, axis)
