"""Errors, pooled."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from attn_export.exporter.validation.metrics import STRESS_LENGTH, PooledError

NUMBERS = st.floats(min_value=-1e3, max_value=1e3).map(lambda x: x if abs(x) > 1e-3 else 1.0)
TENSORS = arrays(np.float64, (3, 4), elements=NUMBERS)
KIND_NAMES = ("noise", "natural", "noise")


def pooled(computed: Any, exact: Any) -> dict[str, float]:
    error = PooledError()
    error.add(computed, exact, KIND_NAMES)
    return error.relative()


@given(TENSORS)
def test_equal_tensors_have_no_error(exact: Any) -> None:
    assert pooled(exact, exact) == {"noise": 0.0, "natural": 0.0}


@given(TENSORS, TENSORS, st.floats(min_value=1e-3, max_value=1e3))
def test_the_error_does_not_depend_on_the_scale(computed: Any, exact: Any, scale: float) -> None:
    assert pooled(computed * scale, exact * scale) == pytest.approx(pooled(computed, exact))


@given(TENSORS, st.floats(min_value=1e-6, max_value=1))
def test_a_relative_change_is_the_error(exact: Any, change: float) -> None:
    assert pooled(exact * (1 + change), exact) == pytest.approx({"noise": change, "natural": change}, rel=1e-6)


@given(TENSORS, st.integers(0, 11), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_what_is_no_number_is_infinitely_wrong(exact: Any, index: int, value: float) -> None:
    computed = exact.copy()
    computed.reshape(-1)[index] = value
    kind = KIND_NAMES[index // 4]
    assert {name for name, error in pooled(computed, exact).items() if error == float("inf")} == {kind}


@given(TENSORS, TENSORS)
def test_batches_are_pooled_as_if_they_were_one(computed: Any, exact: Any) -> None:
    apart = PooledError()
    for i, kind in enumerate(KIND_NAMES):
        apart.add(computed[i : i + 1], exact[i : i + 1], (kind,))
    assert apart.relative() == pytest.approx(pooled(computed, exact))


def test_kinds_are_not_mixed() -> None:
    exact = np.ones((3, 4))
    computed = exact.copy()
    computed[1] += 1
    assert pooled(computed, exact) == {"noise": 0.0, "natural": 1.0}


def test_one_number_after_infinity_does_not_heal_it() -> None:
    error = PooledError()
    error.add(np.array([[np.nan]]), np.array([[1.0]]), ("noise",))
    error.add(np.array([[1.0]]), np.array([[1.0]]), ("noise",))
    assert error.relative() == {"noise": float("inf")}


def test_something_for_nothing_is_an_error() -> None:
    assert pooled(np.ones((3, 4)), np.zeros((3, 4)))["noise"] > 1e100
    assert pooled(np.zeros((3, 4)), np.zeros((3, 4)))["noise"] == 0.0


def test_an_extreme_image_that_makes_almost_nothing_is_measured_by_what_ordinary_ones_make() -> None:
    error = PooledError()
    error.add(np.full((1, 4), 1.0), np.full((1, 4), 1.0), ("noise",))
    error.add(np.full((1, 4), 2e-6), np.full((1, 4), 1e-6), ("zeros",))
    assert error.relative()["zeros"] == pytest.approx(1e-6 / STRESS_LENGTH)
    alone = PooledError()
    alone.add(np.full((1, 4), 2e-6), np.full((1, 4), 1e-6), ("zeros",))
    assert alone.relative()["zeros"] == pytest.approx(1.0)


def test_ordinary_images_are_measured_by_themselves() -> None:
    error = PooledError()
    error.add(np.full((1, 4), 1.0), np.full((1, 4), 1.0), ("noise",))
    error.add(np.full((1, 4), 2e-6), np.full((1, 4), 1e-6), ("natural",))
    assert error.relative()["natural"] == pytest.approx(1.0)


def test_images_for_which_the_reference_gives_no_numbers_are_left_out() -> None:
    exact = np.ones((3, 4))
    exact[1] = np.nan
    assert pooled(np.ones((3, 4)), exact) == {"noise": 0.0}
