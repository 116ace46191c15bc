"""Grids of integers and the ranges that they represent."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attn_export.exporter.errors import InputError
from attn_export.exporter.precision.int8.ranges import Method, choose, grid_of, quantized_weights

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
