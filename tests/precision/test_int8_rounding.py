"""Roundings of weights: what they minimize, in which layers, and that they help."""

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attn_export.exporter.precision.int8.adaround import by_adaround
from attn_export.exporter.precision.int8.ranges import Weights, quantized_weights
from attn_export.exporter.precision.int8.rounding import Moments, by_descent, moments

Array = np.ndarray[Any, Any]


def layer(op_type: str, **attributes: Any) -> ir.Node:
    return ir.node(op_type, [ir.val("x"), ir.val("w")], attributes=attributes)


def convolution(rng: np.random.Generator, groups: int, **attributes: Any) -> tuple[ir.Node, Array, Array, Array]:
    """A layer, its weights, correlated images, and its output."""
    x = rng.standard_normal((16, 4, 9, 8)).cumsum(1).cumsum(2).astype(np.float32)
    weights = rng.standard_normal((8, 4 // groups, 3, 2)).astype(np.float32)
    return layer("Conv", group=groups, **attributes), weights, x, run(weights, x, groups, **attributes)


def run(weights: Array, x: Array, groups: int, **attributes: Any) -> Array:
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    padded = torch.nn.functional.pad(torch.tensor(x), (left, right, top, bottom))
    strides, dilations = attributes.get("strides", (1, 1)), attributes.get("dilations", (1, 1))
    conv = torch.nn.functional.conv2d(padded, torch.tensor(weights), None, strides, 0, dilations, groups)
    return conv.numpy()


def error(weights: Array, x: Array, wanted: Array, groups: int) -> float:
    """Of the output, without its mean, which the bias corrects."""
    difference = run(weights, x, groups) - wanted
    return float(difference.var(axis=(0, 2, 3)).sum())


@given(
    st.integers(0, 2**31),
    st.sampled_from([1, 2, 4]),
    st.fixed_dictionaries(
        {"pads": st.sampled_from([(0, 0, 0, 0), (1, 0, 2, 1)]), "strides": st.sampled_from([(1, 1), (2, 1)])}
    ),
    st.sampled_from([(1, 1), (2, 3)]),
)
@settings(max_examples=15, deadline=None)
def test_moments_give_the_error_of_other_weights(
    seed: int, groups: int, attributes: dict[str, Any], dilations: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    node, weights, x, y = convolution(rng, groups, dilations=dilations, **attributes)
    found = moments(node, [x[:7], x[7:]], [y[:7], y[7:]], weights.shape[2:])
    assert found is not None
    other = (weights + 0.1 * rng.standard_normal(weights.shape)).astype(np.float32)
    rows = other.reshape(groups, 8 // groups, -1)
    quadratic = ((rows @ found.inputs) * rows).sum() - 2 * (rows * found.outputs).sum() + y.var(axis=(0, 2, 3)).sum()
    difference = run(other, x, groups, dilations=dilations, **attributes) - y
    assert quadratic == pytest.approx(difference.var(axis=(0, 2, 3)).sum(), rel=1e-2, abs=1e-3 * float(y.var()))


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("by", [by_descent, by_adaround])
def test_weights_rounded_together_have_a_smaller_error(groups: int, by: Any) -> None:
    node, weights, x, y = convolution(np.random.default_rng(0), groups)
    found = moments(node, [x], [y], weights.shape[2:])
    assert found is not None
    nearest = quantized_weights(weights, 0)
    made = by(node, weights, nearest, found)
    assert made.integers.shape == weights.shape
    assert made.integers.dtype == np.int8
    assert error(made.rounded, x, y, groups) < 0.97 * error(nearest.rounded, x, y, groups)
    assert np.abs(made.rounded - weights).max() < 4 * nearest.scales.max()


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("by", [by_descent, by_adaround])
def test_pruned_weights_stay_zero_and_the_others_are_still_rounded_together(groups: int, by: Any) -> None:
    node, weights, x, _ = convolution(np.random.default_rng(3), groups)
    weights[np.abs(weights) < 0.6] = 0
    wanted = run(weights, x, groups)
    # Inputs with errors of their own, which a weight of zero would make up for.
    rough = (x + 0.3 * np.random.default_rng(4).standard_normal(x.shape)).astype(np.float32)
    found = moments(node, [rough], [wanted], weights.shape[2:])
    assert found is not None
    nearest = quantized_weights(weights, 0)
    made = by(node, weights, nearest, found)
    assert not made.integers[weights == 0].any()
    assert error(made.rounded, rough, wanted, groups) < error(nearest.rounded, rough, wanted, groups)


@pytest.mark.parametrize("axis", [0, 1])
def test_matrices_of_either_form_are_rounded(axis: int) -> None:
    rng = np.random.default_rng(1)
    weights = rng.standard_normal((6, 5)).astype(np.float32)
    x = rng.standard_normal((200, 6)).cumsum(1).astype(np.float32)
    node, stored = (layer("Gemm", transB=1), weights.T.copy()) if axis == 0 else (layer("MatMul"), weights)
    found = moments(node, [x], [x @ weights], ())
    assert found is not None
    nearest = quantized_weights(stored, axis)
    made = by_descent(node, stored, nearest, found)
    wanted = [x @ (w.T if axis == 0 else w) for w in (made.rounded, nearest.rounded)]
    errors = [(w - x @ weights).var(axis=0).sum() for w in wanted]
    assert errors[0] < errors[1]


def test_channels_that_are_always_zero_keep_their_weights() -> None:
    node, weights, x, _ = convolution(np.random.default_rng(2), 1)
    x[:, 1] = 0
    found = moments(node, [x], [run(weights, x, 1)], weights.shape[2:])
    assert found is not None
    made = by_descent(node, weights, quantized_weights(weights, 0), found)
    assert np.isfinite(made.scales).all()
    assert np.abs(made.rounded - weights)[:, 1].max() < 2 * made.scales.max()
    nothing = Moments(np.zeros((1, 24, 24)), np.zeros((1, 8, 24)))
    unknown: Weights = by_descent(node, weights, quantized_weights(weights, 0), nothing)
    assert np.abs(unknown.rounded - weights).max() < 2 * unknown.scales.max()


@pytest.mark.parametrize(
    ("node", "kernel"),
    [
        (layer("ConvTranspose"), (3, 2)),
        (layer("Conv", auto_pad="SAME_UPPER"), (3, 2)),
        (layer("Gemm", transA=1), ()),
    ],
)
def test_other_layers_keep_the_nearest_integers(node: ir.Node, kernel: tuple[int, ...]) -> None:
    images = np.ones((2, 4, 5, 5) if kernel else (2, 4), np.float32)
    assert moments(node, [images], [images], kernel) is None
