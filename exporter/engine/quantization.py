"""What TensorRT asks of quantized graphs beyond ONNX: positive scales, zero points of 0, float biases.

https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html
"""

from pathlib import Path

import numpy as np
import onnx_ir as ir

from attn_export.exporter.errors import UnreadableGraphError
from attn_export.exporter.graph.facts import is_op, stored
from attn_export.exporter.graph.read import parse
from attn_export.exporter.records.arrays import Array

BIASES = (
    "Biases must not be quantized (DequantizeLinear of int32): leave them in float, in onnxruntime.quantization with "
    "extra_options={'QuantizeBias': False}."
)
ZERO_POINTS = (
    "Zero points must be 0: quantize symmetrically, in onnxruntime.quantization with "
    "extra_options={'ActivationSymmetric': True, 'WeightSymmetric': True} and QInt8."
)
SCALES = "Scales must be positive: a channel of zeros needs any positive scale."


def unmet_demands(path: Path) -> list[str]:
    """What of it a file doesn't meet; empty for a file without quantization."""
    found = dict.fromkeys((BIASES, ZERO_POINTS, SCALES), False)
    try:
        graph = parse(path).model.graph
    except UnreadableGraphError:  # TensorRT's own error says more
        return []
    for node in graph:
        if is_op(node, "DequantizeLinear", "QuantizeLinear"):
            tensor, scale, zero = (*node.inputs, None, None)[:3]
            is_bias = tensor is not None and tensor.dtype == ir.DataType.INT32
            found[BIASES] |= is_bias
            found[ZERO_POINTS] |= not is_bias and bool((_numbers(zero) != 0).any())
            found[SCALES] |= bool((_numbers(scale) <= 0).any())
    return [demand for demand, unmet in found.items() if unmet]


def _numbers(value: ir.Value | None) -> Array:
    array = stored(value)
    return np.zeros(0) if array is None else array.astype(np.float64)
