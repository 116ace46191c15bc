"""Grids of integers and the ranges that they represent."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from attn_export.exporter.artifacts import Target
from attn_export.exporter.errors import InputError
from attn_export.exporter.precision.int8.placement import Choices
from attn_export.exporter.precision.int8.ranges import Method, choose, grid_of, quantized_weights
from attn_export.exporter.precision.int8.settings import QuantizeSettings
from attn_export.exporter.workflows.quantize import quantize_file

ENDS = st.floats(-1e4, 1e4, width=32)


@given(ENDS, ENDS, st.booleans())
def test_a_grid_represents_zero_and_its_range_to_half_a_step(first: float, second: float, symmetric: bool) -> None:
    low, high = min(first, second), max(first, second)
    grid = grid_of(low, high, symmetric=symmetric)
    assert grid.rounded(np.zeros(1, np.float32)) == 0
    inside = np.linspace(min(low, 0), max(high, 0), 101).astype(np.float32)
    assert np.abs(grid.rounded(inside) - inside).max() <= grid.scale * 0.501
    assert (grid.low, grid.zero_point) == (-128, 0) if symmetric else 0 <= grid.zero_point <= 255


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_least_squared_error_is_below_that_of_the_whole_range(symmetric: bool) -> None:
    values = np.random.default_rng(0).standard_t(4, 50_000).astype(np.float32)  # with outliers
    error = {
        method: np.square(choose("x", [values], method, symmetric=symmetric).grid.rounded(values) - values).mean()
        for method in Method
    }
    assert error[Method.MSE] == min(error.values())
    assert error[Method.MSE] < error[Method.MINMAX] * 0.95


def test_a_tensor_without_outliers_keeps_its_range() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, 20_000).astype(np.float32)
    assert choose("x", [values], Method.MSE, symmetric=True).share > 0.97


@pytest.mark.parametrize("method", Method)
def test_zeros_and_constants_have_a_range(method: Method) -> None:
    assert choose("x", [np.zeros((2, 3), np.float32)], method, symmetric=True).grid.scale == 1
    constant = choose("x", [np.full(5, 2.5, np.float32)], method, symmetric=False).grid
    assert constant.rounded(np.float32(2.5)) == pytest.approx(2.5, rel=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_is_named(value: float) -> None:
    with pytest.raises(InputError, match="layer1/out is NaN or infinite on a calibration image"):
        choose("layer1/out", [np.array([0, value], np.float32)], Method.MSE, symmetric=True)


@given(st.integers(0, 2**31), st.sampled_from([0, 1]))
def test_weights_are_rounded_to_half_a_step_of_their_channel(seed: int, axis: int) -> None:
    rng = np.random.default_rng(seed)
    weights = (rng.standard_normal((4, 3, 3, 3)) * rng.uniform(1e-3, 10)).astype(np.float32)
    weights[0, 0] = 0
    made = quantized_weights(weights, axis)
    shape = [-1 if i == axis else 1 for i in range(4)]
    assert made.integers.dtype == np.int8
    assert made.integers.min() >= -127
    assert (np.abs(made.rounded - weights) <= made.scales.reshape(shape) * 0.501).all()


@pytest.mark.parametrize(("readers", "low", "high"), [(1, -3.0, 9.0), (2, -9.0, 9.0)])
def test_a_range_ends_where_its_only_reader_tells_no_values_apart(
    readers: int, low: float, high: float, tmp_path: Path
) -> None:
    """A hard swish is 0 below -3; a convolution that reads the same tensor isn't."""
    last = ["HardSwish", "Neg"][:readers]
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"])]
    nodes += [helper.make_node(kind, ["c"], [kind]) for kind in last]
    nodes += [helper.make_node("Conv", [kind, "w"], [f"y{kind}"]) for kind in last]
    ends = [helper.make_tensor_value_info(name, 1, ["N", 16, 1, 2]) for name in ("x", *(f"y{kind}" for kind in last))]
    weights = numpy_helper.from_array(np.eye(16, dtype=np.float32)[:, :, None, None], "w")
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weights])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "a.onnx")
    np.save(tmp_path / "images.npy", np.tile(np.array([-9, 9], np.float32), (2, 16, 1, 1)))
    settings = QuantizeSettings(Choices(Target.ONNXRUNTIME), method=Method.MINMAX, threads=1)
    record = quantize_file(tmp_path / "a.onnx", tmp_path / "b.onnx", tmp_path / "images.npy", settings=settings)
    (found,) = [tensor for tensor in record.tensors if tensor.tensor == "c"]
    assert (found.low, found.high) == pytest.approx((low, high))
