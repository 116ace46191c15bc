"""Rounding to float16."""

import numpy as np

from attn_export.exporter.records.arrays import Array

LARGEST = float(np.finfo(np.float16).max)
# Rounding changes a tensor of ordinary values by 2e-4 in the 2-norm, a fifth of eps. A change of eight eps means
# subnormal values, far below 6e-5.
LARGEST_CHANGE = 8 * float(np.finfo(np.float16).eps)


def rounded(array: Array) -> Array:
    """The nearest float16 values; finite values saturate, infinities stay."""
    finite = np.isfinite(array)
    return np.where(finite, np.clip(array, -LARGEST, LARGEST), array).astype(np.float16)


def overflows(array: Array) -> bool:
    """Whether a finite value exceeds float16's maximum."""
    return bool(array.size) and float(np.abs(np.where(np.isfinite(array), array, 0)).max()) > LARGEST


def change(array: Array) -> float:
    """The relative change of the finite values by rounding, in the 2-norm."""
    finite = np.where(np.isfinite(array), array, 0).astype(np.float64)
    length = float(np.linalg.norm(finite))
    return float(np.linalg.norm(rounded(finite).astype(np.float64) - finite)) / length if length else 0.0


def vanishes(array: Array) -> bool:
    """Whether a nonzero value rounds to zero."""
    return bool(((rounded(array) == 0) & (array != 0)).any())
