"""Cross-layer equalization: where it happens, and that the float32 network stays the same bit for bit."""

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from attn_export.exporter.graph.session import PlainSession
from attn_export.exporter.precision.int8.equalize import equalize

PEAKS = np.array([100, 1, 0.01, 0], np.float32)


def network(between: str = "Relu", *, read_twice: bool = False, depthwise: bool = True) -> ir.Model:
    """1x1 convolution, an activation, 3x3 depthwise convolution; channel i is of the size of PEAKS[i]."""
    rng = np.random.default_rng(0)
    first = rng.standard_normal((4, 3, 1, 1)) * PEAKS[:, None, None, None]
    second = rng.standard_normal((4, 1 if depthwise else 4, 3, 3))
    stored = {"w1": first, "b1": rng.standard_normal(4) * PEAKS, "w2": second, "low": np.zeros(()), "high": np.array(6)}
    inputs = ["c", "low", "high"] if between == "Clip" else ["c"]
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c"], name="first"),
        helper.make_node(between, inputs, ["a"], name="between"),
        helper.make_node("Conv", ["a", "w2"], ["y"], name="second", group=4 if depthwise else 1),
    ]
    outputs: list[Any] = [helper.make_tensor_value_info("y", 1, ["N", 4, 4, 4])]
    if read_twice:
        outputs.append(helper.make_tensor_value_info("a", 1, ["N", 4, 6, 6]))
    arrays = [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", 1, ["N", 3, 6, 6])], outputs, arrays)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return ir.from_proto(made)


def outputs(model: ir.Model) -> list[np.ndarray[Any, Any]]:
    images = np.random.default_rng(1).standard_normal((4, 3, 6, 6)).astype(np.float32)
    return list(PlainSession(model, 1).run({"x": images}).values())


@pytest.mark.parametrize("between", ["Relu", "LeakyRelu"])
def test_channels_get_one_range_and_the_network_stays_the_same(between: str) -> None:
    model = network(between)
    before = outputs(model)
    assert equalize(model, {"a": PEAKS}) == 1
    assert all(np.array_equal(a, b) for a, b in zip(before, outputs(model), strict=True))
    first = next(node for node in model.graph if node.name == "first")
    assert first.inputs[1] is not None
    assert first.inputs[1].const_value is not None
    sizes = np.abs(first.inputs[1].const_value.numpy()).max(axis=(1, 2, 3))
    assert sizes[:3].max() / sizes[:3].min() < 50  # from 10,000 between the channels
    assert equalize(model, {"a": np.full(4, 100, np.float32)}) == 0


@pytest.mark.parametrize(
    "model",
    [
        network("Clip"),  # ReLU6 isn't homogeneous
        network("HardSwish"),
        network(read_twice=True),
        network(depthwise=False),
    ],
)
def test_other_pairs_stay_as_they_are(model: ir.Model) -> None:
    assert equalize(model, {"a": PEAKS}) == 0


def test_channels_without_values_are_left_alone() -> None:
    model = network()
    assert equalize(model, {"a": np.zeros(4, np.float32)}) == 0
    assert equalize(model, {}) == 0
