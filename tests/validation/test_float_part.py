"""Quantized files without their rounding: what isn't the network's is found, and what a quantizer does is no fault."""

import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static

from attn_export.exporter.artifacts import only_input
from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.errors import DisagreementError
from attn_export.exporter.network.batches import nominal_batches
from attn_export.exporter.records.policies import FLOAT32
from attn_export.exporter.records.results import Validated
from attn_export.exporter.records.verdict import QualityRequirement
from attn_export.exporter.validation.float_part import LIMIT
from attn_export.exporter.validation.unrounded import RELU, Quantizer, activations, without_rounding
from attn_export.exporter.workflows.validate import validate_artifacts
from attn_export.models.registry import create
from tests.faults.planting import Subject
from tests.faults.quantization import Images
from tests.numbers import or_infinite

logging.getLogger().setLevel(logging.ERROR)  # the quantizer recommends to prepare the file first
Weights = dict[str, np.ndarray[Any, Any]]
NETWORKS = ("se_digits", pytest.param("cbam_digits", marks=pytest.mark.full))
FIRST_GATE = "layer1.0.attention.fc.3"  # of se_digits


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Subject]:
    return cache(lambda name: Subject(name, tmp_path_factory.mktemp(name)))


def judged(subject: Subject, path: Path, sqnr: float | None = None) -> Validated:
    requirement = None if sqnr is None else QualityRequirement(sqnr=sqnr)
    (found,) = validate_artifacts(subject.model, [path], threads=1, requirement=requirement)
    return found


def first_seen(found: Validated) -> str | None:
    first = found.verdict.first_disagreement if found.verdict else None
    return first.tensor if first and isinstance(found.error, DisagreementError) else None


# Faults of the float file.


def swap_channels(weights: Weights) -> None:
    """As in an image whose colours are in another order."""
    weights["conv1.weight"][[0, 1]] = weights["conv1.weight"][[1, 0]]


def scale_first_layer(weights: Weights) -> None:
    weights["conv1.weight"] *= 1.001


def swap_classes(weights: Weights) -> None:
    for name in ("fc.weight", "fc.bias"):
        weights[name][[0, 1]] = weights[name][[1, 0]]


def drop_bias(weights: Weights) -> None:
    weights["fc.bias"][:] = 0


SMALL: dict[Any, str] = {
    scale_first_layer: "first gate",
    swap_channels: "first gate",
    swap_classes: "output",
    drop_bias: "output",
}


def faulty(source: Path, fault: Callable[[Weights], None] | None, path: Path) -> onnx.ModelProto:
    """The float32 file with a fault."""
    model = onnx.load(source)
    if fault is not None:
        weights = {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in model.graph.initializer}
        fault(weights)
        del model.graph.initializer[:]
        model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    onnx.save(model, path)
    return model


# Files of which little is quantized.


def pair_before_everything(model: onnx.ModelProto) -> None:
    graph = model.graph
    for node in graph.node:
        node.input[:] = ["rounded" if name == "input" else name for name in node.input]
    graph.initializer.extend(
        [numpy_helper.from_array(np.float32(5 / 127), "scale"), numpy_helper.from_array(np.int8(0), "zero")]
    )
    for i, names in enumerate((["input", "scale", "zero"], ["whole", "scale", "zero"])):
        operator, made = (("QuantizeLinear", "whole"), ("DequantizeLinear", "rounded"))[i]
        graph.node.insert(i, helper.make_node(operator, names, [made], name=made))


def last_weights(model: onnx.ModelProto) -> None:
    graph = model.graph
    tensor = next(t for t in graph.initializer if t.name == "fc.weight")
    weight = numpy_helper.to_array(tensor)
    scale = (np.abs(weight).max(1) / 127).astype(np.float32)
    graph.initializer.remove(tensor)
    stored = {
        "fc.whole": np.round(weight / scale[:, None]).astype(np.int8),
        "fc.scale": scale,
        "fc.zero": np.zeros(len(scale), np.int8),
    }
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in stored.items())
    graph.node.insert(0, helper.make_node("DequantizeLinear", list(stored), ["fc.weight"], axis=0, name="back"))


@pytest.mark.parametrize("fault", [None, *SMALL], ids=lambda fault: getattr(fault, "__name__", "good"))
@pytest.mark.parametrize("quantize", [pair_before_everything, last_weights])
def test_one_pair_hides_no_fault(
    quantize: Callable[[onnx.ModelProto], None],
    fault: Callable[[Weights], None] | None,
    subjects: Callable[[str], Subject],
    tmp_path: Path,
) -> None:
    subject, path = subjects("se_digits"), tmp_path / "partly.onnx"
    model = faulty(subject.file.path, fault, path)
    quantize(model)
    onnx.save(model, path)
    found = judged(subject, path)
    assert found.verdict is not None
    *gates, output, _ = found.verdict.comparisons
    assert {gate.limit for gate in gates} == {FLOAT32.limit}
    assert or_infinite(gates[0].baseline) < 1e-4, "no quantized weight comes before it"
    assert (or_infinite(output.baseline) < 1e-4) is (quantize is pair_before_everything)
    expected = {"first gate": FIRST_GATE, "output": "output", None: None}
    assert first_seen(found) == expected[SMALL.get(fault) if fault else None]


# Files that are quantized throughout, in every format of ONNX Runtime's own tool.

TRT = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
FORMATS: dict[str, dict[str, Any]] = {
    "uint8": {"activation_type": QuantType.QUInt8},
    "per channel": {"activation_type": QuantType.QInt8, "per_channel": True},
    "symmetric": {"activation_type": QuantType.QInt8, "extra_options": TRT},
    "convolutions": {"activation_type": QuantType.QInt8, "extra_options": TRT, "op_types_to_quantize": ["Conv"]},
    "uint16": {"activation_type": QuantType.QUInt16},
    "operators": {"quant_format": QuantFormat.QOperator},
    "dynamic": {},
}


@pytest.fixture(scope="module")
def quantize(subjects: Callable[[str], Subject], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``quantize(name, format, fault, factor)``: calibrated on images times a factor."""
    folder = tmp_path_factory.mktemp("quantized")

    def make(name: str, kind: str, fault: Callable[[Weights], None] | None = None, factor: float = 1.0) -> Path:
        subject, source, path = subjects(name), folder / "source.onnx", folder / "quantized.onnx"
        faulty(subject.file.path, fault, source)
        if kind == "dynamic":
            quantize_dynamic(str(source), str(path))
            return path
        images = [np.float32(factor) * batch.arrays["input"] for batch in nominal_batches(subject.model.inputs, 4, 12)]
        images = [np.abs(batch) if factor < 0 else batch for batch in images]
        quantize_static(str(source), str(path), Images(images), **FORMATS[kind])
        return path

    return make


USUAL = ("uint8", "operators")


@pytest.mark.parametrize(
    "kind", [*USUAL, *(pytest.param(kind, marks=pytest.mark.full) for kind in FORMATS if kind not in USUAL)]
)
@pytest.mark.parametrize("name", NETWORKS)
def test_good_files_agree_and_faulty_ones_do_not(
    name: str, kind: str, subjects: Callable[[str], Subject], quantize: Callable[..., Path]
) -> None:
    good = judged(subjects(name), quantize(name, kind))
    assert good.error is None
    assert good.verdict is not None
    assert max(or_infinite(c.ratio) for c in good.verdict.comparisons[:-1]) < 0.75 * LIMIT
    assert good.verdict.gates_missed == ""
    assert str(first_seen(judged(subjects(name), quantize(name, kind, swap_channels)))).startswith("layer")
    assert first_seen(judged(subjects(name), quantize(name, kind, swap_classes))) == "output"


@pytest.mark.parametrize("factor", [0.5, 3.0, -1.0])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_poor_calibration_is_a_matter_of_quality_alone(
    name: str, factor: float, subjects: Callable[[str], Subject], quantize: Callable[..., Path]
) -> None:
    """Calibrated on positive images (-1), the range of the input begins at 0, where no ReLU was taken out."""
    found = judged(subjects(name), quantize(name, "uint8", factor=factor), sqnr=-20.0)
    assert found.error is None
    if factor < 0:
        assert judged(subjects(name), quantize(name, "uint8", factor=factor)).error is not None


@pytest.mark.full
@pytest.mark.parametrize("kind", ["uint8", "per channel", "symmetric"])
@pytest.mark.parametrize("name", ["cbam_resnet8", "se_mobilenet_v3_small", "mobilenet_v2", "cbam_mobilenet_v2"])
def test_networks_with_other_activations_agree(name: str, kind: str, tmp_path: Path) -> None:
    """ReLU6 and hard sigmoids are taken out too; a hidden unit that was zero in the calibration has no range."""
    model = from_module(create(name), only_input((3, 64, 64)))
    subject = Subject(name, tmp_path)
    source, path = tmp_path / "source.onnx", tmp_path / "quantized.onnx"
    onnx.save(onnx.load(subject.file.path), source)
    quantize_static(
        str(source),
        str(path),
        Images([b.arrays["input"] for b in nominal_batches(model.inputs, 4, 12)]),
        **FORMATS[kind],
    )
    (found,) = validate_artifacts(model, [path], threads=1, requirement=QualityRequirement(sqnr=-20.0))
    assert found.error is None


# The pieces.


@pytest.mark.parametrize(
    ("scale", "zero", "first", "others"),
    [
        (0.05, np.uint8(0), RELU, {None}),
        (0.05, np.int8(-128), RELU, {None}),
        (6 / 255, np.uint8(0), (0.0, 6.0), {RELU, None}),
        (0.01, np.uint8(0), RELU, {(0.0, 6.0), None}),
        (1 / 255, np.int8(-128), (0.0, 1.0), {RELU, (0.0, 6.0), None}),
        (0.05, np.uint8(7), None, set()),
        (1.0, np.int8(0), None, {RELU}),
    ],
)
def test_a_range_says_which_activations_it_may_stand_for(scale: float, zero: Any, first: Any, others: set[Any]) -> None:
    bounds = Quantizer(np.float32(scale), np.asarray(zero)).bounds()
    assert bounds[0] == first
    assert set(bounds[1:]) == others


def weights_only(stored: np.ndarray[Any, Any], scale: np.ndarray[Any, Any], **attributes: Any) -> onnx.ModelProto:
    back = helper.make_node("DequantizeLinear", ["stored", "scale"], ["w"], **attributes)
    graph = helper.make_graph(
        [back, helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", stored.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(stored, "stored"), numpy_helper.from_array(scale, "scale")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def weight_of(model: onnx.ModelProto) -> np.ndarray[Any, Any]:
    return next(numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == "w")


@given(st.integers(0, 5), st.sampled_from(["one", "axis 0", "axis 1", "blocks"]))
def test_other_roundings_of_a_weight_are_within_half_a_step(seed: int, form: str) -> None:
    random = np.random.default_rng(seed)
    stored = random.integers(-127, 127, (6, 4)).astype(np.int8)
    sizes, attributes = {
        "one": ((), {}),
        "axis 0": ((6,), {"axis": 0}),
        "axis 1": ((4,), {"axis": 1}),
        "blocks": ((3, 4), {"axis": 0, "block_size": 2}),
    }[form]
    scale = random.uniform(0.01, 0.1, sizes).astype(np.float32)
    model = weights_only(stored, scale, **attributes)
    each = {"one": scale, "axis 0": scale.reshape(-1, 1), "axis 1": scale}.get(form)
    each = np.repeat(scale, 2, 0) if each is None else each
    plain = weight_of(without_rounding(model, {}))
    np.testing.assert_allclose(plain, stored * each, rtol=1e-6)
    moved = weight_of(without_rounding(model, {}, np.random.default_rng(seed)))
    assert (np.abs(moved - plain) <= 0.5001 * each).all()
    assert np.std((moved - plain) / each) > 0.1


def test_a_pair_whose_scales_differ_keeps_the_difference() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("MaxPool", ["q"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("DequantizeLinear", ["p", "t", "u"], ["y"]),
    ]
    tensors = {"s": np.float32(0.1), "z": np.int8(3), "t": np.float32(0.2), "u": np.int8(1)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    assert activations(model) == {}
    images = np.random.default_rng(0).uniform(-5, 5, (2, 1, 4, 4)).astype(np.float32)
    floats = onnx.reference.ReferenceEvaluator(without_rounding(model, {}))
    results: Any = floats.run(None, {"x": images})
    pooled = images.reshape(2, 1, 2, 2, 2, 2).max((3, 5))
    np.testing.assert_allclose(results[0], (pooled / 0.1 + 3 - 1) * 0.2, rtol=1e-5, atol=1e-5)
