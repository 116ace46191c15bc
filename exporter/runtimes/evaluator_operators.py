"""PyTorch implementations of operators for ONNX's reference evaluator.

They are a thousand times faster than its Python loops over pixels. The pools of onnx 1.23 are also wrong if a stride
exceeds the kernel or a window reaches into the padding.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_dequantize_linear import DequantizeLinear_23
from onnx.reference.ops.op_max_pool import MaxPool as OnnxMaxPool
from onnx.reference.ops.op_quantize_linear import QuantizeLinear_23
from torch.nn import functional

from attn_export.exporter.records.arrays import Array

IMAGE_AXES = 2
CONVOLUTIONS: dict[int, Any] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
MAXIMA: dict[int, Any] = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}


@dataclass(frozen=True)
class Window:
    """A sliding window over the spatial axes, from ONNX's attributes.

    Attributes:
        kernel, strides, dilations: by axis.
        pads: begins of all axes, then ends.
        beyond: extra padding at the ends for partial windows (``ceil_mode``).
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    beyond: tuple[int, ...]

    def pad(self, x: torch.Tensor, value: float, beyond: float | None = None) -> torch.Tensor:
        """The padded tensor; ``beyond`` is the value of the extra padding."""
        axes = range(len(self.kernel))
        padded = functional.pad(x, self._sides(self.pads[: len(axes)], self.pads[len(axes) :]), value=value)
        return functional.pad(
            padded, self._sides((0,) * len(axes), self.beyond), value=value if beyond is None else beyond
        )

    def _sides(self, begins: Sequence[int], ends: Sequence[int]) -> list[int]:
        """In PyTorch's order: from the last axis."""
        return [n for begin, end in zip(reversed(begins), reversed(ends), strict=True) for n in (begin, end)]


def window_of(
    sizes: Sequence[int],
    kernel: Sequence[int],
    *,
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    auto_pad: str | None = None,
    ceil_mode: int | None = 0,
    **_: Any,
) -> Window:
    """The window for images of these sizes, by the operator's attributes; others are ignored."""
    axes = len(sizes)
    strides, dilations = tuple(strides or [1] * axes), tuple(dilations or [1] * axes)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if auto_pad in (None, "", "NOTSET"):
        pads = tuple(pads or [0] * 2 * axes)
    elif auto_pad == "VALID":
        pads = (0,) * 2 * axes
    else:
        total = [max(0, (-(-n // s) - 1) * s + k - n) for n, k, s in zip(sizes, spans, strides, strict=True)]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = (*small, *large) if auto_pad == "SAME_UPPER" else (*large, *small)
    beyond = [0] * axes
    for i in range(axes if ceil_mode else 0):
        room = sizes[i] + pads[i] + pads[axes + i] - spans[i]
        count = math.ceil(room / strides[i]) + 1
        if (count - 1) * strides[i] >= sizes[i] + pads[i]:  # the last window would begin in the padding
            count -= 1
        beyond[i] = max(0, (count - 1) * strides[i] - room)
    return Window(tuple(kernel), strides, dilations, pads, tuple(beyond))


class Conv(OpRun):
    """A convolution over one, two or three axes."""

    def _run(self, x, weight, bias=None, **attributes):  # type: ignore[no-untyped-def]
        return (_convolved(x, weight, bias, **attributes).numpy(),)


class MaxPool(OnnxMaxPool):
    """Max pooling. Indices and integers are left to the evaluator."""

    def _run(self, x, **attributes):  # type: ignore[no-untyped-def,override]
        if len(self.onnx_node.output) > 1 or x.dtype.kind != "f":
            onnx_run: Any = super()._run
            return onnx_run(x, **attributes)
        window = window_of(x.shape[2:], attributes["kernel_shape"], **attributes)
        padded = window.pad(_tensor(x), -math.inf)
        largest = MAXIMA[len(window.kernel)](padded, window.kernel, window.strides, dilation=window.dilations)
        return (largest.numpy(),)


class AveragePool(OpRun):
    """The mean over each window's pixels, with ``count_include_pad`` also over its padding."""

    def _run(self, x, count_include_pad=None, **attributes):  # type: ignore[no-untyped-def]
        window = window_of(x.shape[2:], attributes["kernel_shape"], **attributes)
        images = _tensor(x).reshape(-1, 1, *x.shape[2:])
        ones = torch.ones(1, 1, *window.kernel, dtype=images.dtype)
        counted = window.pad(torch.ones_like(images[:1]), 1.0 if count_include_pad else 0.0, beyond=0.0)
        convolve = CONVOLUTIONS[len(window.kernel)]
        sums, counts = (
            convolve(padded, ones, stride=window.strides, dilation=window.dilations)
            for padded in (window.pad(images, 0.0), counted)
        )
        return ((sums / counts).reshape(*x.shape[:2], *sums.shape[2:]).numpy(),)


def _convolved(x: Array, weight: Array, bias: Array | None = None, group: int = 1, **attributes: Any) -> torch.Tensor:
    window = window_of(x.shape[2:], weight.shape[2:], **attributes)
    tensors = [None if array is None else torch.from_numpy(np.array(array)) for array in (weight, bias)]
    found: torch.Tensor = CONVOLUTIONS[x.ndim - IMAGE_AXES](
        window.pad(_tensor(x), 0.0), *tensors, stride=window.strides, dilation=window.dilations, groups=group
    )
    return found


def _tensor(x: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(x))


class ConvInteger(OpRun):
    """Integer convolution, exact in double precision."""

    def _run(self, x, weight, x_zero_point=None, w_zero_point=None, **attributes):  # type: ignore[no-untyped-def]
        images, kernels = x.astype(np.float64), weight.astype(np.float64)
        if x_zero_point is not None:
            images -= float(x_zero_point)
        if w_zero_point is not None:  # one, or one for each of the first axis
            kernels -= np.reshape(w_zero_point, (-1, *[1] * (weight.ndim - 1)))
        return (_convolved(images, kernels, **attributes).numpy().astype(np.int32),)


class BatchNormalization(OpRun):
    """Batch normalization before opset 14. With one output it doesn't train; the evaluator's own class always does."""

    def _run(self, x, scale, bias, mean, variance, epsilon=1e-5, **_):  # type: ignore[no-untyped-def]
        ones = [1] * (x.ndim - 2)
        scale, bias, mean, variance = (array.reshape(-1, *ones) for array in (scale, bias, mean, variance))
        return ((scale * (x - mean) / np.sqrt(variance + epsilon) + bias).astype(x.dtype),)


def _named(name: str, base: Any, domain: str) -> Any:
    return type(name, (base,), {"op_domain": domain})


OPERATORS = (
    Conv,
    MaxPool,
    AveragePool,
    ConvInteger,
    # ONNX Runtime's domain has them too, for types that ONNX added later.
    _named("QuantizeLinear", QuantizeLinear_23, "com.microsoft"),
    _named("DequantizeLinear", DequantizeLinear_23, "com.microsoft"),
)
BEFORE_14 = (BatchNormalization,)
# The evaluator lacks the earlier DequantizeLinear, which has the same definition.
BEFORE_19 = (_named("DequantizeLinear", DequantizeLinear_23, ""),)


def operators_for(model: onnx.ModelProto) -> list[Any]:
    """The ``new_ops`` of `ReferenceEvaluator`."""
    opset = next((entry.version for entry in model.opset_import if not entry.domain), 0)
    return [*OPERATORS, *(BEFORE_14 if opset < 14 else ()), *(BEFORE_19 if opset < 19 else ())]
