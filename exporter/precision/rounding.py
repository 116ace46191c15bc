"""The two floating-point types of 16 bits, and rounding to them."""

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from attn_export.exporter.artifacts import Precision
from attn_export.exporter.records.arrays import Array


@dataclass(frozen=True)
class HalfType:
    """A floating-point type of 16 bits.

    Attributes:
        precision: its name on the command line.
        dtype: its name in ONNX.
        numpy: its type of arrays.
        largest: the largest finite value.
        eps: the distance of 1 from the next value.
    """

    precision: Precision
    dtype: ir.DataType
    numpy: Any
    largest: float
    eps: float

    def __str__(self) -> str:
        return self.precision.onnx_name

    @property
    def largest_change(self) -> float:
        """The largest relative change by rounding, in the 2-norm, of a tensor of ordinary values.

        It is usually a fifth of eps; eight eps mean subnormal values, which float16 has from 6e-5 down.
        """
        return 8 * self.eps

    def rounded(self, array: Array) -> Array:
        """The nearest values; finite ones saturate, infinities stay."""
        finite = np.isfinite(array)
        result: Array = np.where(finite, np.clip(array, -self.largest, self.largest), array).astype(self.numpy)
        return result

    def overflows(self, array: Array) -> bool:
        """Whether a finite value exceeds the largest."""
        return bool(array.size) and float(np.abs(np.where(np.isfinite(array), array, 0)).max()) > self.largest

    def change(self, array: Array) -> float:
        """The relative change of the finite values by rounding, in the 2-norm."""
        finite = np.where(np.isfinite(array), array, 0).astype(np.float64)
        length = float(np.linalg.norm(finite))
        moved = self.rounded(finite).astype(np.float64) - finite
        return float(np.linalg.norm(moved)) / length if length else 0.0

    def vanishes(self, array: Array) -> bool:
        """Whether a nonzero value rounds to zero."""
        return bool(((self.rounded(array) == 0) & (array != 0)).any())


def _half(precision: Precision, dtype: ir.DataType, kind: Any) -> HalfType:
    limits = ml_dtypes.finfo(kind)  # type: ignore[no-untyped-call]
    return HalfType(precision, dtype, np.dtype(kind), float(limits.max), float(limits.eps))


FLOAT16 = _half(Precision.FP16, ir.DataType.FLOAT16, np.float16)
BFLOAT16 = _half(Precision.BF16, ir.DataType.BFLOAT16, ml_dtypes.bfloat16)
HALF_TYPES = {kind.precision: kind for kind in (FLOAT16, BFLOAT16)}
