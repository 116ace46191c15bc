"""How far an artifact may be off."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from attn_export.exporter.artifacts import Precision
from attn_export.exporter.records.policies import FLOAT32, POLICIES
from attn_export.exporter.records.verdict import Comparison, Verdict
from attn_export.exporter.validation.verdict import compare, floored_baselines
from tests.numbers import or_infinite


def test_the_worst_kind_is_the_one_that_is_reported() -> None:
    comparison = compare("output", "output", {"noise": 1e-5, "natural": 2e-5}, {"noise": 1e-6, "natural": 1e-5})
    assert (comparison.kind, comparison.error, comparison.baseline) == ("noise", 1e-5, 1e-6)
    assert comparison.ratio == pytest.approx(10)
    assert not comparison.agrees


def test_a_baseline_that_is_zero_by_luck_is_held_at_the_floor() -> None:
    comparison = compare("output", "output", {"noise": FLOAT32.floor}, {"noise": 0.0})
    assert comparison.baseline == FLOAT32.floor
    assert comparison.ratio == 1.0
    assert float(4 * np.finfo(np.float32).eps) == FLOAT32.floor


@pytest.mark.parametrize(("times", "agrees"), [(0, True), (1, True), (5.99, True), (6.01, False), (1e6, False)])
def test_the_limit_is_a_multiple_of_the_baseline(times: float, agrees: bool) -> None:
    assert compare("output", "output", {"noise": times * 1e-5}, {"noise": 1e-5}).agrees is agrees


@pytest.mark.parametrize("error", [float("inf"), float("nan")])
def test_no_number_never_agrees(error: float) -> None:
    assert not Comparison("output", "output", "noise", error, 1.0, FLOAT32.limit).agrees


def test_a_verdict_fails_with_one_tensor_and_names_the_first() -> None:
    made = [
        Comparison(name, "gate", "noise", error, 1.0, FLOAT32.limit)
        for name, error in zip("abcd", (1, 9, 99, 2), strict=True)
    ]
    verdict = Verdict("onnxruntime", tuple(made), ())
    assert not verdict.agrees
    assert verdict.first_disagreement == made[1]
    assert verdict.worst == made[2]
    assert verdict.worst_of("gate") == made[2]
    assert verdict.worst_of("output") is None


def test_an_extreme_kind_has_at_least_the_baseline_of_the_ordinary_ones() -> None:
    found = floored_baselines({"noise": 1e-5, "natural": 2e-6, "large": 1e-7}, POLICIES[Precision.FP32])
    assert found == {"noise": 1e-5, "natural": 2e-6, "large": 1e-5}


def test_flat_maps_may_be_off_by_roundings_that_all_go_one_way() -> None:
    """As ONNX Runtime's GlobalAveragePool is, by one rounding for every 65 pixels."""
    pixels = 224 * 224
    found = floored_baselines({"noise": 1e-7, "zeros": 1e-7}, POLICIES[Precision.FP32], pixels)
    assert found["noise"] == pytest.approx(224 / 16 * np.finfo(np.float32).eps)
    assert found["zeros"] == pytest.approx(pixels / 16 * np.finfo(np.float32).eps)
    measured = 772 * np.finfo(np.float32).eps
    assert compare(
        "output", "output", {"noise": 0.0, "zeros": measured}, {"noise": 0.0, "zeros": 0.0}, pixels=pixels
    ).agrees
    assert not compare(
        "output", "output", {"noise": measured, "zeros": 0.0}, {"noise": 0.0, "zeros": 0.0}, pixels=pixels
    ).agrees


@pytest.mark.parametrize("side", [16, 56, 224, 640])
def test_a_mean_that_is_summed_one_by_one_is_good_at_every_size(side: int) -> None:
    """What is measured of ONNX Runtime's GlobalAveragePool: a random walk, and on flat maps all in one direction."""
    draw = np.random.default_rng(side)
    maps = {
        "noise": np.abs(draw.standard_normal((1, 256, side, side), dtype=np.float32)),
        "zeros": np.broadcast_to(draw.random((1, 256, 1, 1), dtype=np.float32), (1, 256, side, side)).copy(),
    }
    node = helper.make_node("GlobalAveragePool", ["x"], ["y"])
    taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 256, side, side])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", [taken], [made])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    errors = {}
    for kind, images in maps.items():
        exact = images.mean((2, 3), keepdims=True, dtype=np.float64)
        errors[kind] = float(np.linalg.norm(session.run(None, {"x": images})[0] - exact) / np.linalg.norm(exact))
    found = compare("gate", "gate", errors, dict.fromkeys(errors, 0.0), pixels=side * side)
    assert found.agrees
    assert max(map(or_infinite, found.ratios.values())) < 0.6 * FLOAT32.limit
    if side >= 56:
        assert errors["noise"] > 0.1 * side * np.finfo(np.float32).eps, "the floor is no larger than it has to be"


def test_every_kinds_ratio_is_kept() -> None:
    comparison = compare("output", "output", {"noise": 1e-5, "natural": 2e-5}, {"noise": 1e-6, "natural": 1e-5})
    assert comparison.ratios == {"noise": pytest.approx(10), "natural": pytest.approx(2)}


def test_an_extreme_kind_without_a_baseline_is_left_out() -> None:
    """float16 loses a deep network's large images altogether."""
    for lost in (0.3, float("inf")):
        found = compare("output", "output", {"noise": 1e-6, "large": 9.0}, {"noise": 1e-6, "large": lost})
        assert found.agrees
        assert set(found.ratios) == {"noise"}
    assert not compare("output", "output", {"noise": 1e-6, "large": 9.0}, {"noise": 1e-6, "large": 1e-4}).agrees
