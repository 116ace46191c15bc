"""The values that an input can take, drawn for each kind of test image."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from attn_export.exporter.artifacts import NHWC, Input, Shape
from attn_export.exporter.errors import InputError
from attn_export.exporter.network.images import BLACK, IMAGE_RANK, KINDS, STRESS, WHITE
from attn_export.exporter.records.arrays import Array, Arrays

# Of larger integers any range may be too large, such as that of an embedding's indices.
RANGES = {"uint8": (0.0, 255.0), "int8": (-128.0, 127.0), "bool": (0.0, 1.0)}
FLOATS = ("float32", "float16", "float64")
LARGEST = 2**32


def drawn(kind: str, taken: Input, size: Shape, draw: np.random.Generator) -> Array:
    """One image's values of an input.

    Where the input has a range, black and white are its ends, and nothing lies outside. ``size`` is without N.

    Raises:
        InputError: it holds integers of unknown range, or is larger than any memory.
    """
    if math.prod(size) > LARGEST:
        raise InputError(
            f"the input {taken.name} holds {math.prod(size):.2g} numbers for each image, and {LARGEST} are the limit",
            hint="Give the size of an image: --input 1x3x224x224.",
        )
    if taken.dtype not in FLOATS and len(size) != IMAGE_RANK:
        return _integers(kind, size, *_known(taken), draw).astype(taken.dtype)
    if kind == "natural" and len(size) != IMAGE_RANK:
        kind = "noise"
    function: Any = {**KINDS, **STRESS}[kind]
    if taken.layout == NHWC:
        height, width, channels = size
        image = function((channels, height, width), draw)
        return within_range(np.ascontiguousarray(np.moveaxis(image, 0, -1)), taken)
    return within_range(function(size or (1,), draw).reshape(size), taken)


def timed_inputs(inputs: Sequence[Input]) -> Arrays:
    """One batch of noise, which is always the same."""
    draw = np.random.default_rng(0)
    return {taken.name: drawn("noise", with_range(taken), taken.shape, draw) for taken in inputs}


def within_range(values: Array, taken: Input) -> Array:
    """Normalized values as an input takes them: black and white are the ends of its range.

    Raises:
        InputError: it holds integers of unknown range.
    """
    if (limits := range_of(taken)) is not None:
        low, high = limits
        values = np.clip(low + (values - BLACK) / (WHITE - BLACK) * (high - low), low, high)
    if taken.dtype not in FLOATS:
        _known(taken)
        values = np.round(values)
    return np.asarray(values, taken.dtype)


def with_range(taken: Input) -> Input:
    """An input of a file, which doesn't say its range: integers are 0 and 1, which every mask and index takes."""
    return taken if taken.dtype in FLOATS else replace(taken, range=range_of(taken) or (0, 1))


def range_of(taken: Input) -> tuple[float, float] | None:
    """The range of an input, or else of its type."""
    return taken.range or RANGES.get(taken.dtype)


def _known(taken: Input) -> tuple[int, int]:
    if (limits := range_of(taken)) is None:
        raise InputError(
            f"the input {taken.name!r} is {taken.dtype}, and nothing says which values it can take",
            hint=f"For example --range {taken.name}=0..1 for a mask, or 0..999 for the indices of 1000 classes.",
        )
    return int(limits[0]), int(limits[1])


def _integers(kind: str, size: Shape, low: int, high: int, draw: np.random.Generator) -> Array:
    """Integers for a kind: of any size, all the smallest or largest, or one of these among the other."""
    if kind == "zeros" or kind == "tiny":
        return np.full(size, min(max(0, low), high))
    if kind == "large":
        return np.full(size, high)
    if kind == "saturated":
        return np.where(draw.random(size) < 0.5, low, high)
    if kind == "impulse":
        values = np.full(max(1, int(np.prod(size))), low)
        values[int(draw.integers(0, len(values)))] = high
        return values.reshape(size)
    return draw.integers(low, high, size, endpoint=True)
