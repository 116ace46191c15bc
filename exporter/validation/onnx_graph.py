"""Quantized ONNX graphs in a chosen precision.

A graph with QuantizeLinear and DequantizeLinear rounds at these nodes only. In float64 ONNX's reference evaluator
(https://onnx.ai/onnx/api/reference.html) computes exactly that; in the graph's own types it shows the effect of
ordinary rounding and of ties.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from attn_export.exporter.errors import InputError, first_line
from attn_export.exporter.records.arrays import Array, Arrays
from attn_export.exporter.runtimes.emulated_types import emulated, retype
from attn_export.exporter.runtimes.evaluator import evaluate, evaluator_of
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
        if dtype is np.float64:
            retype(model := load_in_pairs(path), FLOAT_TYPES, dtype)
        else:
            model = emulated(path)
        try:
            self._evaluator = evaluator_of(model)
        except Exception as error:  # it raises whatever its parts raise
            raise self._refused(error) from error

    def __call__(self, inputs: Arrays, names: Sequence[str]) -> tuple[Array, ...]:
        """The named outputs for the graph's inputs, (N, ...) each."""
        feeds = {name: array.astype(self.dtype) if array.dtype.kind == "f" else array for name, array in inputs.items()}
        try:
            outputs = evaluate(self._evaluator, names, feeds)
        except Exception as error:  # as above
            raise self._refused(error) from error
        return tuple(np.asarray(outputs[name]) for name in names)

    def _refused(self, error: BaseException) -> InputError:
        return InputError(
            f"ONNX's reference evaluator can't compute {self.path}: {first_line(error)}",
            hint="What it says can't be known then, and no runtime be compared with it. ONNX's own QuantizeLinear and "
            "DequantizeLinear can be computed.",
        )
