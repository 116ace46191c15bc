"""float8, and float16 around quantized layers: what the files hold, how good they are, and their engines."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import helper, numpy_helper

from attn_export.cli import run
from attn_export.exporter.artifacts import Float32Node, Precision, Target
from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.cleanup.pipeline import clean_graph
from attn_export.exporter.engine.settings import EngineSettings
from attn_export.exporter.errors import EngineError, InputError, UsageError
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.graph.read import parse
from attn_export.exporter.precision.float8 import Float8Grid
from attn_export.exporter.precision.half_scales import with_half_scales
from attn_export.exporter.precision.int8.placement import NARROW, Choices, Placement
from attn_export.exporter.precision.int8.ranges import Method, Weights, quantized_weights
from attn_export.exporter.precision.int8.rounding import Rounding
from attn_export.exporter.precision.int8.settings import QuantizeSettings
from attn_export.exporter.precision.int8.sweep import Sweep
from attn_export.exporter.records.quantization import Quantization
from attn_export.exporter.validation.artifact import engine_precision
from attn_export.exporter.workflows.quantize import quantize_file
from attn_export.exporter.workflows.quantize_record import narrow_layers
from attn_export.models.registry import create
from tests.engine.building import build_file
from tests.faults.planting import DIGITS, Subject
from tests.precision.test_bfloat16 import held_out
from tests.shared import capture

FAST = QuantizeSettings(method=Method.MINMAX, threads=1)
FP16, FP8 = Precision.FP16, Precision.FP8
Made = Callable[..., tuple[Path, Quantization]]


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("small")
    source = Subject("se_digits", folder).file.path
    images = held_out("se_digits")
    np.save(folder / "calibration.npy", images[:32])
    np.save(folder / "other.npy", images[32:])

    def make(precision: Precision, around: Precision = Precision.FP32) -> tuple[Path, Quantization]:
        settings, out = replace(FAST, precision=precision, around=around), folder / f"{precision}.{around}.onnx"
        record = quantize_file(
            source, out, folder / "calibration.npy", held_out=folder / "other.npy", settings=settings
        )
        return out, record

    return cache(make)


def dtypes(path: Path) -> dict[str, ir.DataType | None]:
    """The types of the scales and results of each QuantizeLinear and DequantizeLinear."""
    nodes = [node for node in parse(path).model.graph if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    return {f"{node.op_type} scale": node.inputs[1].dtype for node in nodes if node.inputs[1]} | {
        f"{node.op_type} steps": (node.inputs[0] if node.op_type[0] == "D" else node.outputs[0]).dtype  # type: ignore[union-attr]
        for node in nodes
    }


@pytest.mark.parametrize(
    ("precision", "around", "least"),
    [(FP8, Precision.FP32, 22.0), pytest.param(FP8, FP16, 22.0, marks=pytest.mark.full), (Precision.INT8, FP16, 35.0)],
)
def test_a_trained_network_keeps_its_answers(
    precision: Precision, around: Precision, least: float, quantized: Made
) -> None:
    path, record = quantized(precision, around)
    assert record.held_out is not None
    assert record.held_out.agreement is not None
    assert record.held_out.agreement > 0.99
    assert min(value or 0 for value in record.held_out.sqnr_db.values()) > least
    steps = ir.DataType.INT8 if precision is Precision.INT8 else ir.DataType.FLOAT8E4M3FN
    scale = ir.DataType.FLOAT16 if around is FP16 else ir.DataType.FLOAT
    assert dtypes(path) == {f"{op} {what}": kind for op in ("QuantizeLinear", "DequantizeLinear")
                            for what, kind in (("scale", scale), ("steps", steps))}  # fmt: skip
    graph = parse(path).model.graph
    assert {value.dtype for value in (*graph.inputs, *graph.outputs)} == {ir.DataType.FLOAT}
    assert (record.precision, record.around) == (str(precision), str(around))
    assert bool(record.float32) is (around is FP16)  # the sums of the gates
    assert run(["validate", str(DIGITS / "se_digits.pt"), str(path), "--threads", "1", "--quiet"]) == 0


@pytest.mark.parametrize(
    ("precision", "gpu", "read"), [(Precision.INT8, "sm86", "INT8"), (FP8, "sm89", "FLOAT8E4M3FN")]
)
def test_every_layer_of_the_plan_runs_quantized_with_float16_around(
    precision: Precision, gpu: str, read: str, quantized: Made, tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx")
    path, record = quantized(precision, FP16)
    built = build_file(path, tmp_path / "a.engine", EngineSettings(gpus=(gpu,), count_ablated=False)).record
    assert built.precision.mixed == ()
    assert {read, "FLOAT16"} <= set(built.kernels.types)
    for layer in record.layers:
        reads = {kind for kernel in built.kernels.kernels if layer.node in kernel.nodes for kind in kernel.reads}
        assert read in reads, layer.node


def test_a_gpu_without_float8_is_refused(quantized: Made, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    with pytest.raises(EngineError) as caught:
        build_file(quantized(FP8)[0], tmp_path / "a.engine", EngineSettings(gpus=("sm86",)))
    assert caught.value.exit_code == 5
    assert "fp8 needs sm89" in caught.value.hint


@pytest.mark.parametrize("settings", [replace(FAST, precision=FP8), replace(FAST, around=FP16)])
def test_onnxruntime_has_no_such_form(settings: QuantizeSettings, quantized: Made, tmp_path: Path) -> None:
    path, _ = quantized(FP8)
    with pytest.raises(UsageError, match="is for TensorRT"):
        quantize_file(path, tmp_path / "a.onnx", path, settings=replace(settings, choices=Choices(Target.ONNXRUNTIME)))


def test_a_quantized_file_is_not_quantized_again(quantized: Made, tmp_path: Path) -> None:
    path, _ = quantized(FP8)
    with pytest.raises(InputError, match="is quantized already"):
        quantize_file(path, tmp_path / "a.onnx", path.with_name("calibration.npy"), settings=FAST)


@pytest.mark.full
def test_se_resnet50_has_a_quarter_fewer_kernels_than_the_usual_recipe(tmp_path: Path) -> None:
    """NVIDIA's ModelOpt has 186 with float16 around; every quantized layer reads int8."""
    pytest.importorskip("tensorrt_rtx")
    model = from_module(create("se_resnet50"), (3, 64, 64))
    source = onnx_file.write(clean_graph(capture(model), Target.TENSORRT)[0], tmp_path / "a.onnx").path
    np.save(tmp_path / "c.npy", np.random.default_rng(0).standard_normal((4, 3, 64, 64)).astype(np.float32))
    plain = replace(FAST, rounding=Rounding.NEAREST, correct_bias=False, equalize=False, around=FP16)
    record = quantize_file(source, tmp_path / "q.onnx", tmp_path / "c.npy", settings=plain)
    settings = EngineSettings(gpus=("sm86",), count_ablated=False)
    built = build_file(tmp_path / "q.onnx", tmp_path / "q.engine", settings).record
    assert len(record.layers) == 54
    assert built.precision.mixed == ()
    assert built.cost.kernels is not None
    assert built.cost.kernels <= 0.75 * 186


def test_float8_leaves_large_filters_in_floats_and_says_why(tmp_path: Path) -> None:
    text = "(float[1,16,32,32] x) => (float[1,16,32,32] y) { c = Conv <pads = [3,3,3,3]> (x, w) y = Conv(c, v) }"
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 20]> g {text}')
    draw = np.random.default_rng(0)
    weights = {"w": draw.standard_normal((16, 16, 7, 7)), "v": draw.standard_normal((16, 16, 1, 1))}
    model.graph.initializer.extend(numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items())
    onnx.save(onnx.shape_inference.infer_shapes(model), tmp_path / "a.onnx")
    np.save(tmp_path / "c.npy", draw.standard_normal((2, 16, 32, 32)).astype(np.float32))
    settings = replace(FAST, precision=FP8)
    record = quantize_file(tmp_path / "a.onnx", tmp_path / "q.onnx", tmp_path / "c.npy", settings=settings)
    assert len(record.layers) == 1
    assert [node.reason for node in record.kept] == [
        "TensorRT has no float8 kernels for filters of more than 32 places"
    ]


@pytest.mark.parametrize(
    ("asked", "graph", "judged"),
    [
        ("fp32", ("FLOAT", "FLOAT16"), Precision.FP32),
        ("tf32", ("FLOAT",), FP16),
        ("bf16", ("FLOAT", "BFLOAT16"), Precision.BF16),
        ("int8", ("FLOAT", "INT8"), Precision.FP32),
        ("int8", ("FLOAT", "FLOAT16", "INT8"), FP16),
        (None, ("FLOAT", "FLOAT16"), FP16),
    ],
)
def test_an_engine_is_judged_by_the_floats_that_it_computes_in(
    asked: str | None, graph: tuple[str, ...], judged: Precision
) -> None:
    assert engine_precision(asked, graph) is judged


def test_narrow_networks_are_told_that_int8_gains_little() -> None:
    layers = []
    for shape in ((32, 1, 3, 3), (32, 32, 1, 1)):
        weights = ir.Value(name="w", const_value=ir.tensor(np.zeros(shape, np.float32)))
        layers.append(ir.node("Conv", [ir.Value(name="x"), weights]))
    kept = (Float32Node("c", "", "Conv", NARROW),)
    assert narrow_layers(Placement(tuple(layers), frozenset(), kept)).startswith(
        "2 of 3 layers are depthwise or have fewer"
    )
    assert narrow_layers(Placement(tuple(layers), frozenset(), ())) == ""


@given(arrays(np.float32, 8, elements=st.floats(-600, 600, width=32)), st.sampled_from([0.25, 1.0, 1.7]))
def test_float8_rounds_as_onnx_does(values: np.ndarray, scale: float) -> None:
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]), helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"])]  # fmt: skip # noqa: E501
    info = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [8]) for name in "xy"]
    constants = {"s": np.float32(scale), "z": np.zeros((), ml_dtypes.float8_e4m3fn)}
    stored = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    (expected,) = onnx.reference.ReferenceEvaluator(model).run(None, {"x": values})
    np.testing.assert_array_equal(Float8Grid(scale, 0, -448, 448).rounded(values), expected)


@given(st.floats(1e-12, 1.0), st.integers(0, 5))
def test_scales_in_float16_stay_positive_and_keep_the_weights(size: float, seed: int) -> None:
    weights = (np.random.default_rng(seed).standard_normal((3, 4, 3, 3)) * [[[[size]]]]).astype(np.float32)
    layer = ir.node("Conv", [])
    found = Sweep(weights={layer: quantized_weights(weights, 0)})
    before = found.weights[layer]
    with_half_scales(found)
    after: Weights = found.weights[layer]
    assert (after.scales > 0).all()
    np.testing.assert_array_equal(after.scales.astype(np.float16).astype(np.float32), after.scales)
    steps = (before.scales + after.scales).reshape(-1, 1, 1, 1)  # each rounding moves a weight by half a step
    assert (np.abs(after.rounded - weights) <= 0.501 * steps).all()
