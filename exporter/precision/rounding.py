"""What becomes of numbers that are rounded to float16."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

LARGEST = float(np.finfo(np.float16).max)
# A tensor of ordinary numbers changes by 2e-4 in the 2-norm, a fifth of eps. One that changes by eight eps lies where
# float16 runs out of digits, far below 6e-5.
LARGEST_CHANGE = 8 * float(np.finfo(np.float16).eps)


def rounded(array: Array) -> Array:
    """The nearest float16 numbers; those beyond the largest become the largest, infinities stay infinite."""
    finite = np.isfinite(array)
    limited = np.where(finite, np.clip(array, -LARGEST, LARGEST), array)
    return limited.astype(np.float16)


def overflows(array: Array) -> bool:
    """Whether a finite number is beyond float16's largest."""
    return bool(array.size) and float(np.abs(np.where(np.isfinite(array), array, 0)).max()) > LARGEST


def change(array: Array) -> float:
    """How far rounding moves the finite numbers together, relative to their length."""
    finite = np.where(np.isfinite(array), array, 0).astype(np.float64)
    length = float(np.linalg.norm(finite))
    return float(np.linalg.norm(rounded(finite).astype(np.float64) - finite)) / length if length else 0.0


def vanishes(array: Array) -> bool:
    """Whether some number that isn't zero becomes zero."""
    return bool(((rounded(array) == 0) & (array != 0)).any())
