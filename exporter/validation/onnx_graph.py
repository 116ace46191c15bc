"""Quantized ONNX graphs in a chosen precision.

A graph with QuantizeLinear and DequantizeLinear rounds at these nodes only. In float64 ONNX's reference evaluator
(https://onnx.ai/onnx/api/reference.html) computes exactly that; in the graph's own types it shows the effect of
ordinary rounding and of ties.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from attn_export.exporter.errors import InputError, first_line
from attn_export.exporter.records.arrays import Array, Arrays
from attn_export.exporter.runtimes.emulated_types import emulated
from attn_export.exporter.runtimes.evaluator_operators import operators_for
from attn_export.exporter.runtimes.quantized_operators import load_in_pairs

FLOAT_TYPES = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)


class ExactGraph:
    """A file in float64 throughout, or in its own types.

    np.float64 is for all floats; np.float32 emulates float16 and bfloat16.

    Raises:
        InputError: the reference evaluator lacks an operator.
    """

    def __init__(self, path: Path, dtype: type[np.floating[Any]]) -> None:
        self.path, self.dtype = path, dtype
        model = _in(load_in_pairs(path), dtype) if dtype is np.float64 else emulated(path)
        try:
            self._evaluator = ReferenceEvaluator(model, new_ops=operators_for(model))
        except Exception as error:  # it raises whatever its parts raise
            raise self._refused(error) from error

    def __call__(self, inputs: Arrays, names: Sequence[str]) -> tuple[Array, ...]:
        """The named outputs for the graph's inputs, (N, ...) each."""
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                outputs = self._evaluator.run(list(names), self._converted(inputs))
        except Exception as error:  # as above
            raise self._refused(error) from error
        return tuple(np.asarray(array) for array in outputs)

    def _converted(self, inputs: Arrays) -> dict[str, Array]:
        return {name: array.astype(self.dtype) if array.dtype.kind == "f" else array for name, array in inputs.items()}

    def _refused(self, error: BaseException) -> InputError:
        return InputError(
            f"ONNX's reference evaluator can't compute {self.path}: {first_line(error)}",
            hint="What it says can't be known then, and no runtime be compared with it. ONNX's own QuantizeLinear and "
            "DequantizeLinear can be computed.",
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
