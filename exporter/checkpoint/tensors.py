"""Tensors in the bytes of a file, whose sizes and strides are checked against these bytes."""

import math
from collections.abc import Sequence

import torch

MOST_DIMENSIONS = 25
# Views of one storage may overlap: shared weights, flattened buffers. More than this is an attack on the memory.
OVERLAP, SMALL = 4, 2**28


class Views:
    """Makes tensors; all of them together may be four times as large as the file of ``size`` bytes, and 256 MiB."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._left = OVERLAP * size + SMALL

    def view(
        self, content: torch.Tensor, dtype: torch.dtype, sizes: Sequence[int], strides: Sequence[int], offset: int
    ) -> torch.Tensor:
        """A tensor in these bytes.

        The content is uint8; strides and offset count elements.

        Raises:
            ValueError: these aren't numbers, or the tensor isn't in the bytes, or there is too much of it.
        """
        if not isinstance(sizes, list | tuple) or not isinstance(strides, list | tuple):
            raise ValueError("a tensor has sizes or strides that are none")  # noqa: TRY004 (the file is to blame)
        numbers = (*sizes, *strides, offset)
        if not all(type(number) is int for number in numbers) or len(sizes) != len(strides):
            raise ValueError("a tensor has sizes and strides that don't fit each other")
        if len(sizes) > MOST_DIMENSIONS:
            raise ValueError(f"a tensor has {len(sizes)} dimensions, at most {MOST_DIMENSIONS} are read")
        if min(numbers) < 0:
            raise ValueError("a tensor has a negative size, stride or offset")
        count = math.prod(sizes)
        if not count:
            return torch.empty(list(sizes), dtype=dtype)
        last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
        if (last + 1) * dtype.itemsize > content.numel():
            raise ValueError(f"a tensor of {'x'.join(map(str, sizes))} elements is larger than its bytes")
        self._left -= count * dtype.itemsize
        if self._left < 0:
            raise ValueError("its tensors repeat their bytes, and are many times as large as the file")
        whole = content[: content.numel() // dtype.itemsize * dtype.itemsize].view(dtype)
        tensor = whole.as_strided(list(sizes), list(strides), offset)
        # Tensors that repeat their elements, as `expand` makes them, can't be written in place.
        return tensor.contiguous() if 0 in strides else tensor


def tensor_of(content: bytes | bytearray) -> torch.Tensor:
    """The bytes as a tensor of uint8."""
    return torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
