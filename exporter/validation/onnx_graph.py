"""What an ONNX graph says that is to be computed, in a precision of choice: for graphs whose own rounding is the point.

A graph with QuantizeLinear and DequantizeLinear is meant to round where it says so and nowhere else. In double
precision ONNX's reference evaluator (https://onnx.ai/onnx/api/reference.html) computes just that; in float32 it shows
how far ordinary rounding, and the ties that it tips, may lead.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from attn_export.exporter.errors import InputError, first_line
from attn_export.exporter.runtimes.base import Array

FLOAT_TYPES = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)
IMAGE_AXES = 2


class Conv(OpRun):
    """The evaluator's own convolution goes through numpy pixel by pixel; PyTorch's takes a thousandth of the time."""

    def _run(  # type: ignore[no-untyped-def]
        self,
        x,
        weight,
        bias=None,
        auto_pad="NOTSET",
        dilations=None,
        group=1,
        kernel_shape=None,  # noqa: ARG002 - the weight has it too
        pads=None,
        strides=None,
    ):
        import torch
        from torch.nn import functional

        axes = x.ndim - IMAGE_AXES
        strides, dilations = list(strides or [1] * axes), list(dilations or [1] * axes)
        sizes = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
        pads = _padding(auto_pad, pads, x.shape[2:], sizes, strides)
        around = [n for i in reversed(range(axes)) for n in (pads[i], pads[i + axes])]
        convolve: Any = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}[axes]
        with torch.no_grad():
            padded = functional.pad(torch.from_numpy(np.ascontiguousarray(x)), around)
            tensors = [None if t is None else torch.from_numpy(np.array(t)) for t in (weight, bias)]
            made = convolve(padded, *tensors, stride=strides, dilation=dilations, groups=group)
        return (made.numpy(),)


def _padding(
    auto_pad: str, pads: Sequence[int] | None, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int]
) -> list[int]:
    """Begins of all axes, then ends, as ONNX's Conv says."""
    if auto_pad in ("", "NOTSET"):
        return list(pads or [0] * 2 * len(sizes))
    if auto_pad == "VALID":
        return [0] * 2 * len(sizes)
    total = [max(0, (-(-n // s) - 1) * s + k - n) for n, k, s in zip(sizes, kernel, strides, strict=True)]
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return [*small, *large] if auto_pad == "SAME_UPPER" else [*large, *small]


class ExactGraph:
    """A file, ready to be computed in float64 or in float32 throughout.

    Args:
        path: the ONNX file.
        dtype: np.float64 or np.float32; floats of other types in the file take it too.

    Raises:
        InputError: it has an operator that the reference evaluator doesn't know.
    """

    def __init__(self, path: Path, dtype: type[np.floating[Any]]) -> None:
        self.path, self.dtype = path, dtype
        model = _in(onnx.load(path), dtype)
        try:
            self._evaluator = ReferenceEvaluator(model, new_ops=[Conv])
        except Exception as error:  # it raises whatever its parts raise
            raise self._refused(error) from error
        initialized = {tensor.name for tensor in model.graph.initializer}
        (self._input,) = (value.name for value in model.graph.input if value.name not in initialized)

    def __call__(self, images: Array, names: Sequence[str]) -> tuple[Array, ...]:
        """The outputs of these names for images (N, C, H, W).

        Raises:
            InputError: it can't be computed.
        """
        try:
            made = self._evaluator.run(list(names), {self._input: images.astype(self.dtype)})
        except Exception as error:  # as above
            raise self._refused(error) from error
        return tuple(np.asarray(array) for array in made)

    def _refused(self, error: BaseException) -> InputError:
        return InputError(
            f"ONNX's reference evaluator can't compute {self.path}: {first_line(error)}",
            hint="What a quantized file says can't be known then, so a runtime can't be compared with it.",
        )


def _in(model: onnx.ModelProto, dtype: type[np.floating[Any]]) -> onnx.ModelProto:
    """The model with all floats of one type."""
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    for tensor in model.graph.initializer:
        _retype(tensor, dtype)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                _retype(attribute.t, dtype)
            elif attribute.name in ("to", "dtype", "output_dtype") and attribute.i in FLOAT_TYPES:
                attribute.i = kind
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type in FLOAT_TYPES:
            value.type.tensor_type.elem_type = kind
    del model.graph.value_info[:]
    return model


def _retype(tensor: onnx.TensorProto, dtype: type[np.floating[Any]]) -> None:
    if tensor.data_type in FLOAT_TYPES:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name))
