"""Files in bfloat16 and in float8, as other tools make them and the export doesn't. For tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# The first in which a convolution may be in bfloat16.
BFLOAT16_OPSET, IR_VERSION = 22, 10
LARGEST_FLOAT8 = 448.0
LAYERS = ("Conv", "Gemm", "MatMul")


def to_bfloat16(half: Path, path: Path, opset: int = BFLOAT16_OPSET) -> Path:
    """A float16 file with every float16 replaced; what stays in float32 there stays in float32.

    Weights are rounded twice, as all that is in float16 before.
    """
    model = onnx.load(half)
    graph = model.graph
    for tensor in graph.initializer:
        _narrow(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                _narrow(attribute.t)
            elif attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.BFLOAT16
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    model.opset_import[0].version, model.ir_version = opset, IR_VERSION
    onnx.save(model, path)
    return path


def _narrow(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT16:
        array = numpy_helper.to_array(tensor).astype(np.float32).astype(ml_dtypes.bfloat16)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def to_float8(source: Path, path: Path, batches: Sequence[np.ndarray[Any, Any]]) -> Path:
    """A float32 file with QuantizeLinear and DequantizeLinear to float8e4m3fn before every layer, and float8 weights.

    Scales take the largest value that is seen to the largest float8.

    Args:
        source: with one input.
        path: of the new file.
        batches: images, (N, C, H, W).
    """
    model = onnx.load(source)
    graph = model.graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    layers = [node for node in graph.node if node.op_type in LAYERS]
    largest = _largest(source, {node.input[0] for node in layers}, batches)
    largest |= {name: float(np.abs(weights[name]).max()) for node in layers if (name := node.input[1]) in weights}
    zero = numpy_helper.from_array(np.array(0, np.float32).astype(ml_dtypes.float8_e4m3fn), "float8/zero")
    graph.initializer.append(zero)
    nodes: list[onnx.NodeProto] = []
    made: set[str] = set()
    for node in graph.node:
        for i, name in enumerate(node.input[:2] if node.op_type in LAYERS else ()):
            if name not in made:
                made.add(name)
                scale = np.array(max(largest[name], 1e-6) / LARGEST_FLOAT8, np.float32)
                graph.initializer.append(numpy_helper.from_array(scale, f"{name}/scale"))
                if name in weights:
                    rounded = (weights[name] / scale).astype(ml_dtypes.float8_e4m3fn)
                    graph.initializer.append(numpy_helper.from_array(rounded, f"{name}/float8"))
                else:
                    given = [name, f"{name}/scale", zero.name]
                    nodes.append(helper.make_node("QuantizeLinear", given, [f"{name}/float8"], name=f"{name}/quantize"))
                given = [f"{name}/float8", f"{name}/scale", zero.name]
                nodes.append(helper.make_node("DequantizeLinear", given, [f"{name}/back"], name=f"{name}/dequantize"))
            node.input[i] = f"{name}/back"
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]
    onnx.save(model, path)
    return path


def _largest(source: Path, names: set[str], batches: Sequence[np.ndarray[Any, Any]]) -> dict[str, float]:
    """The largest magnitude of each tensor."""
    import onnxruntime

    model = onnx.load(source)
    (given,) = (value.name for value in model.graph.input)
    computed = sorted(names - {given})
    known = {value.name for value in model.graph.output}
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in computed if name not in known
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = {given: max(float(np.abs(images).max()) for images in batches)} | dict.fromkeys(computed, 0.0)
    for images in batches:
        for name, array in zip(computed, session.run(computed, {given: images}), strict=True):
            found[name] = max(found[name], float(np.abs(array).max()))
    return found
