"""onnx's reference evaluator as a runtime: fast where it was slow, and rounding where the types say so."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from attn_export.exporter.artifacts import Axis, Input, Signature
from attn_export.exporter.errors import InputError, RuntimeUnavailableError
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.runtimes.emulated_types import emulated
from attn_export.exporter.runtimes.evaluator import Evaluator
from attn_export.exporter.runtimes.evaluator_operators import operators_for

ONE_THREAD = Settings(threads=1)
FLOAT, BFLOAT16, FLOAT16 = TensorProto.FLOAT, TensorProto.BFLOAT16, TensorProto.FLOAT16
NUMPY: dict[int, Any] = {BFLOAT16: ml_dtypes.bfloat16, FLOAT16: np.float16}


def model_of(
    nodes: list[onnx.NodeProto],
    kind: int = FLOAT,
    shape: tuple[int | str, ...] = ("N", 3, 8, 8),
    out: int | None = None,
    weights: Mapping[str, np.ndarray[Any, Any]] | None = None,
    opset: int = 22,
) -> onnx.ModelProto:
    taken = helper.make_tensor_value_info("x", kind, shape)
    made = helper.make_tensor_value_info("y", kind if out is None else out, None)
    tensors = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "g", [taken], [made], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "a.onnx")
    return folder / "a.onnx"


def signature(*shape: int) -> Signature:
    return Signature((Input("x", shape, axes=(Axis("batch", 0),)),), ("y",))


def ran(model: onnx.ModelProto, images: np.ndarray[Any, Any], folder: Path, *extra: str) -> dict[str, Any]:
    with Evaluator(saved(model, folder), signature(*images.shape), ONE_THREAD, extra) as runtime:
        return runtime.run({"x": images})


# Operators that PyTorch computes.


@st.composite
def windows(draw: st.DrawFn) -> dict[str, Any]:
    """Attributes of a convolution or a pool over two axes."""
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    strides = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = draw(
        st.one_of(
            st.just({}),
            st.builds(lambda name: {"auto_pad": name}, st.sampled_from(["VALID", "SAME_UPPER", "SAME_LOWER"])),
            st.builds(
                lambda pads: {"pads": [min(p, kernel[i % 2] - 1) for i, p in enumerate(pads)]},
                st.tuples(*[st.integers(0, 2)] * 4),
            ),
        )
    )
    dilations = {} if padding.keys() == {"auto_pad"} else {"dilations": draw(st.sampled_from([[1, 1], [2, 1], [2, 2]]))}
    if padding.get("auto_pad", "").startswith("SAME"):  # ONNX Runtime takes no others
        strides = (min(strides[0], kernel[0]), min(strides[1], kernel[1]))
    return {"kernel_shape": kernel, "strides": strides, **padding, **dilations}


def evaluated(model: onnx.ModelProto, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    evaluator = ReferenceEvaluator(model, new_ops=operators_for(model))
    return np.asarray(evaluator.run(None, {"x": images})[0])  # type: ignore[index]


def compared_with_onnx_runtime(model: onnx.ModelProto) -> None:
    images = np.random.default_rng(0).standard_normal((2, 4, 9, 7)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    ours = evaluated(model, images)
    (theirs,) = session.run(None, {"x": images})
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=50)
@given(windows(), st.sampled_from([1, 2, 4]), st.booleans())
def test_a_convolution_is_the_one_of_onnx(window: dict[str, Any], group: int, has_bias: bool) -> None:
    random = np.random.default_rng(1)
    weight = random.standard_normal((8, 4 // group, *window["kernel_shape"])).astype(np.float32)
    weights = {"w": weight, **({"b": random.standard_normal(8).astype(np.float32)} if has_bias else {})}
    node = helper.make_node("Conv", ["x", *weights], ["y"], group=group, **window)
    compared_with_onnx_runtime(model_of([node], shape=("N", 4, "H", "W"), weights=weights))


@settings(deadline=None, max_examples=50)
@given(windows(), st.sampled_from([0, 1]), st.sampled_from([0, 1]))
def test_a_pool_is_the_one_of_onnx(window: dict[str, Any], count_include_pad: int, ceil_mode: int) -> None:
    window = {**window, **({} if "auto_pad" in window else {"ceil_mode": ceil_mode})}
    for operator, more in (("MaxPool", {}), ("AveragePool", {"count_include_pad": count_include_pad})):
        attributes: dict[str, Any] = {**window, **more}
        node = helper.make_node(operator, ["x"], ["y"], **attributes)
        compared_with_onnx_runtime(model_of([node], shape=("N", 4, "H", "W")))


def test_where_the_largest_is_is_left_to_the_evaluator() -> None:
    node = helper.make_node("MaxPool", ["x"], ["y", "where"], kernel_shape=[2, 2], strides=[2, 2])
    images = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    ours = evaluated(model_of([node]), images)
    assert np.array_equal(ours, images.reshape(2, 3, 4, 2, 4, 2).max((3, 5)))


@pytest.mark.parametrize("opset", [7, 9, 13, 14])
def test_batch_normalization_does_not_train_at_any_opset(opset: int) -> None:
    random = np.random.default_rng(0)
    weights = {name: random.uniform(0.5, 2, 4).astype(np.float32) for name in ("scale", "bias", "mean", "variance")}
    node = helper.make_node("BatchNormalization", ["x", *weights], ["y"], epsilon=1e-3, momentum=0.8)
    model = model_of([node], shape=("N", 4, "H", "W"), weights=weights, opset=opset)
    compared_with_onnx_runtime(model)


def test_double_precision_stays_double() -> None:
    window: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2]}
    weight, images = (np.random.default_rng(i).standard_normal((8, 3, 3 + 6 * i, 3 + 6 * i)) for i in (0, 1))
    for node, weights in (
        (helper.make_node("Conv", ["x", "w"], ["y"], **window), {"w": weight}),
        (helper.make_node("MaxPool", ["x"], ["y"], **window), {}),
        (helper.make_node("AveragePool", ["x"], ["y"], **window), {}),
    ):
        model = model_of([node], TensorProto.DOUBLE, ("N", 3, 9, 9), weights=weights)
        assert evaluated(model, images).dtype == np.float64


# Types.


@pytest.mark.parametrize("kind", [BFLOAT16, FLOAT16], ids=["bfloat16", "float16"])
def test_every_result_is_rounded_to_the_type_that_the_file_gives_it(kind: int, tmp_path: Path) -> None:
    scale = np.array(1 / 3, np.float32).astype(NUMPY[kind])
    nodes = [
        helper.make_node("Cast", ["x"], ["narrow"], to=kind),
        helper.make_node("Mul", ["narrow", "scale"], ["scaled"]),
        helper.make_node("Exp", ["scaled"], ["grown"]),
        helper.make_node("Cast", ["grown"], ["y"], to=FLOAT),
    ]
    images = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    found = ran(model_of(nodes, out=FLOAT, weights={"scale": scale}), images, tmp_path, "narrow", "scaled")
    exact = images.astype(NUMPY[kind]).astype(np.float32)
    assert np.array_equal(found["narrow"], exact)
    exact = (exact * scale.astype(np.float32)).astype(NUMPY[kind]).astype(np.float32)
    assert np.array_equal(found["scaled"], exact)
    exact = np.exp(exact).astype(NUMPY[kind]).astype(np.float32)
    np.testing.assert_allclose(found["y"], exact, rtol=float(ml_dtypes.finfo(NUMPY[kind]).eps), atol=0)
    assert found["y"].dtype == np.float32


def test_sums_are_not_made_in_bfloat16(tmp_path: Path) -> None:
    axes = np.array([2, 3], np.int64)
    nodes = [
        helper.make_node("Cast", ["x"], ["narrow"], to=BFLOAT16),
        helper.make_node("ReduceMean", ["narrow", "axes"], ["mean"], keepdims=1),
        helper.make_node("Cast", ["mean"], ["y"], to=FLOAT),
    ]
    images = np.abs(np.random.default_rng(0).standard_normal((1, 3, 112, 112))).astype(np.float32)
    model = model_of(nodes, shape=("N", 3, 112, 112), out=FLOAT, weights={"axes": axes})
    (theirs,) = ReferenceEvaluator(model).run(None, {"x": images})
    mean = images.mean((2, 3), keepdims=True)
    np.testing.assert_allclose(ran(model, images, tmp_path)["y"], mean, rtol=5e-3)
    assert np.abs(theirs - mean).max() > 0.5 * mean.max(), "the evaluator alone would be no judge"


def test_an_input_in_bfloat16_is_rounded_and_an_output_widened(tmp_path: Path) -> None:
    images = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    found = ran(model_of([helper.make_node("Neg", ["x"], ["y"])], BFLOAT16), images, tmp_path)
    assert found["y"].dtype == np.float32
    assert np.array_equal(found["y"], -images.astype(ml_dtypes.bfloat16).astype(np.float32))


def test_a_float32_graph_is_left_alone(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Cast", ["r"], ["y"], to=TensorProto.INT32)]
    made = emulated(saved(model_of(nodes, out=TensorProto.INT32), tmp_path))
    assert [node.op_type for node in made.graph.node] == ["Relu", "Cast"]
    assert made.graph.node[1].attribute[0].i == TensorProto.INT32


def test_values_inside_are_returned_by_name_or_instead_of_the_outputs(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Neg", ["r"], ["y"])]
    path, images = saved(model_of(nodes), tmp_path), np.ones((1, 3, 8, 8), np.float32)
    for only, names in ((False, {"y", "r"}), (True, {"r"})):
        with Evaluator(path, signature(1, 3, 8, 8), ONE_THREAD, ["r"], only_extra=only) as runtime:
            assert set(runtime.run({"x": images})) == names
            assert "reference evaluator" in runtime.provenance


def test_control_flow_and_unknown_operators_are_reported(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["z"])], "b", [], [helper.make_tensor_value_info("z", FLOAT, None)]
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    images = np.ones((1, 3, 8, 8), np.float32)
    with pytest.raises(InputError, match="control flow"):
        ran(model_of([node], weights={"c": np.array(True)}), images, tmp_path)
    strange = model_of([helper.make_node("Strange", ["x"], ["y"], domain="somebody")])
    strange.opset_import.append(helper.make_opsetid("somebody", 1))
    with pytest.raises(RuntimeUnavailableError, match="reference evaluator can't run this artifact"):
        ran(strange, images, tmp_path)
