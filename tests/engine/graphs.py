"""Small graphs, written by hand, so that each holds what a test is about and nothing else."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
Dims = Sequence[int | str | None]
MAP: Dims = ("N", 8, 8, 8)
NUMPY: dict[int, Any] = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16}


def weight(name: str, *shape: int, kind: int = TensorProto.FLOAT) -> onnx.TensorProto:
    """Small random numbers, the same every time."""
    numbers = np.random.default_rng(crc32(name.encode())).normal(size=shape, scale=0.1)
    return numpy_helper.from_array(numbers.astype(NUMPY[kind]), name)


def stated(name: str, sizes: Dims | None = MAP, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, sizes)


def conv(source: str, out: str, kernel: str = "w", name: str | None = None, **attributes: Any) -> onnx.NodeProto:
    attributes = {"pads": [1, 1, 1, 1], **attributes}
    return helper.make_node("Conv", [source, kernel], [out], name=f"conv_{out}" if name is None else name, **attributes)


def node(op_type: str, sources: str, out: str, name: str | None = None, **attributes: Any) -> onnx.NodeProto:
    """``node("Mul", "a b", "c")``."""
    return helper.make_node(
        op_type, sources.split(), out.split(), name=f"{op_type.lower()}_{out}" if name is None else name, **attributes
    )


def saved(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    weights: Sequence[onnx.TensorProto] = (),
    inputs: Sequence[onnx.ValueInfoProto] = (stated("x"),),
    outputs: Sequence[onnx.ValueInfoProto] = (stated("y"),),
    *,
    opset: int = OPSET,
    domains: Sequence[str] = (),
) -> Path:
    """The file, checked by onnx where all of its operators are ONNX's own."""
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(weights))
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def plain(path: Path, names: Sequence[str] = ("first", "relu", "second")) -> Path:
    """Two convolutions with a ReLU between them."""
    first, relu, second = names
    nodes = [conv("x", "a", "w", first), node("Relu", "a", "b", relu), conv("b", "y", "v", second)]
    return saved(path, nodes, [weight("w", 8, 8, 3, 3), weight("v", 8, 8, 3, 3)])


GATE_WEIGHTS = ("fc1", 2, 8, 1, 1), ("fc2", 8, 2, 1, 1)


def gate(source: str, out: str, prefix: str, extra: str = "") -> list[onnx.NodeProto]:
    """An SE block from ``source`` to ``out``; ``extra`` is a second map that it multiplies."""
    p = prefix
    return [
        node("GlobalAveragePool", source, f"{p}_pool"),
        conv(f"{p}_pool", f"{p}_low", "fc1", pads=[0] * 4),
        node("Relu", f"{p}_low", f"{p}_act"),
        conv(f"{p}_act", f"{p}_logits", "fc2", pads=[0] * 4),
        node("Sigmoid", f"{p}_logits", f"{p}_gate"),
        node("Mul", f"{extra or source} {p}_gate", out),
    ]


def gate_weights() -> list[onnx.TensorProto]:
    return [weight(name, *shape) for name, *shape in GATE_WEIGHTS]


def gated(path: Path) -> Path:
    """A convolution, an SE block, a ReLU."""
    nodes = [conv("x", "a"), *gate("a", "b", "se"), node("Relu", "b", "y")]
    return saved(path, nodes, [weight("w", 8, 8, 3, 3), *gate_weights()])


def half_inside(path: Path) -> Path:
    """float32 outside, a float16 convolution between two Casts, and a float32 one behind it."""
    half = TensorProto.FLOAT16
    nodes = [
        conv("x", "a", "w"),
        node("Cast", "a", "a16", to=half),
        conv("a16", "b16", "w16"),
        node("Sigmoid", "b16", "c16"),
        node("Cast", "c16", "c", to=TensorProto.FLOAT),
        conv("c", "y", "v"),
    ]
    return saved(path, nodes, [weight("w", 8, 8, 3, 3), weight("w16", 8, 8, 3, 3, kind=half), weight("v", 8, 8, 3, 3)])


def all_half(path: Path) -> Path:
    """Everything in float16, inputs and outputs in float32."""
    half = TensorProto.FLOAT16
    nodes = [
        node("Cast", "x", "x16", to=half),
        conv("x16", "a", "w16"),
        node("Relu", "a", "b"),
        conv("b", "c", "v16"),
        node("Cast", "c", "y", to=TensorProto.FLOAT),
    ]
    return saved(path, nodes, [weight("w16", 8, 8, 3, 3, kind=half), weight("v16", 8, 8, 3, 3, kind=half)])


def eight_bits(path: Path) -> Path:
    """A convolution whose input and weights went through float8."""
    f8 = TensorProto.FLOAT8E4M3FN
    scales = [numpy_helper.from_array(np.float32(value), name) for name, value in (("sx", 0.05), ("sw", 0.01))]
    zero = helper.make_tensor("zero", f8, [], b"\0", raw=True)
    nodes = [
        node("QuantizeLinear", "x sx zero", "xq"),
        node("DequantizeLinear", "xq sx zero", "xd"),
        node("QuantizeLinear", "w sw zero", "wq"),
        node("DequantizeLinear", "wq sw zero", "wd"),
        conv("xd", "y", "wd"),
    ]
    return saved(
        path,
        nodes,
        [weight("w", 32, 32, 3, 3), *scales, zero],
        [stated("x", ("N", 32, 16, 16))],
        [stated("y", ("N", 32, 16, 16))],
    )
