"""The arrays that runtimes take and return."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from attn_export.exporter.artifacts import Input

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]


def zeros_of(taken: Input) -> Array:
    """Zeros for an input, or the smallest number that it can take."""
    low = taken.range[0] if taken.range else 0
    return np.full(taken.shape, max(0, low), taken.dtype)
