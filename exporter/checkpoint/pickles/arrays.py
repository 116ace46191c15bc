"""Arrays of numpy in a pickle, as tensors: what numpy's own functions would make of the same bytes.

An array is made empty and gets its shape, type and bytes afterwards, as its state. A tensor can't, so an `Array`
stands for it until then, and the unpickler puts the tensor in its place.
"""

import math
from typing import Any

import torch

from attn_export.exporter.checkpoint.inert import Inert
from attn_export.exporter.checkpoint.tensors import Views, tensor_of

TYPES = {
    "f2": torch.float16, "f4": torch.float32, "f8": torch.float64, "i1": torch.int8, "i2": torch.int16,
    "i4": torch.int32, "i8": torch.int64, "u1": torch.uint8, "b1": torch.bool,
}  # fmt: skip
# Byte orders: little-endian, and none for single bytes.
ORDERS = ("<", "|")
MODULES = ("numpy.core", "numpy._core")


class DType:
    """``numpy.dtype(code, False, True)``; its byte order is its state. ``code``: type and size in bytes, ``f4``."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.dtype = TYPES.get(code) if isinstance(code, str) else None

    def __setstate__(self, state: Any) -> None:
        """Take the byte order: (version, order, ...); one that isn't read makes the type unknown."""
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ORDERS:
            self.dtype = None


class Array(Inert):
    """An array before its state is there, or one whose type isn't read."""

    full_name = "numpy.ndarray"


def reconstructed(*_: Any) -> Array:
    """Numpy's ``_reconstruct``."""
    return Array()


def from_state(state: Any, views: Views) -> Any:
    """The tensor of (version, shape, type, whether it is in Fortran's order, bytes); an `Array` of any other state.

    Raises:
        ValueError: the bytes are of another size.
    """
    if not isinstance(state, tuple) or len(state) != 5:
        return Array()
    _, shape, kind, columns_first, content = state
    return from_bytes(content, kind, shape, "F" if columns_first else "C", views)


def from_bytes(content: Any, kind: Any, shape: Any, order: Any, views: Views) -> Any:
    """Numpy's ``_frombuffer``; see `from_state`."""
    dtype = kind.dtype if isinstance(kind, DType) else None
    if dtype is None or not isinstance(content, bytes | bytearray) or not isinstance(shape, tuple):
        return Array()
    if not all(type(size) is int and size >= 0 for size in shape) or math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError("an array has a shape that its bytes don't have")
    sizes = shape[::-1] if order == "F" else shape
    strides = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    tensor = views.view(tensor_of(content), dtype, sizes, strides, 0)
    return tensor.permute(*reversed(range(len(sizes)))) if order == "F" else tensor
