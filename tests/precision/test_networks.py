"""Whole networks of the zoo in float16: valid, right, judged, and built by TensorRT-RTX as they are typed."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from attn_export.exporter.artifacts import (
    MODULE_KEY,
    Float32Node,
    LoadedModel,
    OnnxFile,
    ParsedFile,
    Precision,
    Target,
    only_input,
)
from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.cleanup.pipeline import clean_graph
from attn_export.exporter.engine.graph import read_source
from attn_export.exporter.engine.log import uncollected
from attn_export.exporter.errors import CleanupError, DisagreementError, InputError
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.graph.gates import gates_of
from attn_export.exporter.graph.read import parse, parsed, read
from attn_export.exporter.network.axes import opened
from attn_export.exporter.network.batches import batches
from attn_export.exporter.precision.ranges import largest_values
from attn_export.exporter.precision.rounding import FLOAT16
from attn_export.exporter.precision.typed_file import PRECISION_KEY, typed, typed_file
from attn_export.exporter.records.policies import POLICIES
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.validation.converted_source import compare_with_parent
from attn_export.exporter.validation.reference import Reference
from attn_export.exporter.validation.validate import validate
from attn_export.models.registry import create
from tests.numbers import or_infinite
from tests.precision.conftest import check
from tests.shared import capture, compute_reference

NAMES = ("se_resnet8", "cbam_resnet8", pytest.param("se_mobilenet_v3_small", marks=pytest.mark.full))
PRECISIONS = (Precision.FP32, Precision.FP16)
FIRST_LAYERS = ("fc.0", "fc1", "mlp.1", "ChannelGate")
ONE_THREAD = Settings(threads=1)
# Good files stand below; the limit leaves room for bad luck, as its comment says.
LARGEST_GOOD_RATIO = 2.0


def make(name: str) -> LoadedModel:
    size = 64 if "mobilenet" in name else 32
    return from_module(create(name), (3, size, size))


@pytest.fixture(scope="module")
def loaded() -> Callable[[str], LoadedModel]:
    return cache(make)


@pytest.fixture(scope="module")
def reference(loaded: Callable[[str], LoadedModel]) -> Callable[[str], Reference]:
    return cache(
        lambda name: compute_reference(loaded(name), batches(opened(loaded(name).inputs)), precisions=PRECISIONS)
    )


@pytest.fixture(scope="module")
def plain(
    loaded: Callable[[str], LoadedModel], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, Target], OnnxFile]:
    folder = tmp_path_factory.mktemp("plain")

    def write(name: str, target: Target = Target.ANY) -> OnnxFile:
        return onnx_file.write(clean_graph(capture(loaded(name)), target)[0], folder / f"{name}.{target}.onnx")

    return cache(write)


@pytest.fixture(scope="module")
def half(
    plain: Callable[..., OnnxFile], reference: Callable[[str], Reference], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., OnnxFile]:
    folder = tmp_path_factory.mktemp("half")

    def write(name: str, target: Target = Target.ANY) -> OnnxFile:
        path = folder / f"{name}.{target}.fp16.onnx"
        return typed_file(plain(name, target), Precision.FP16, reference(name).batches, path, 1)

    return cache(write)


@pytest.mark.parametrize("target", [Target.ANY, Target.TENSORRT])
@pytest.mark.parametrize("name", NAMES)
def test_a_typed_file_is_valid_and_what_its_parent_is(
    name: str, target: Target, plain: Callable[..., OnnxFile], half: Callable[..., OnnxFile]
) -> None:
    parent, file = plain(name, target), half(name, target)
    proto = onnx.load(file.path)
    check(proto)
    assert file.precision is Precision.FP16
    assert file.signature == parent.signature
    assert [v.type.tensor_type.elem_type for v in (*proto.graph.input, *proto.graph.output)] == [1, 1]
    assert (file.parent_sha256, file.blocks, file.opset) == (parent.parent_sha256, parent.blocks, parent.opset)
    assert [gate.module_path for gate in file.gates] == [gate.module_path for gate in parent.gates]
    assert file.gates == gates_of(read(file.path))
    assert file.nodes == len(proto.graph.node)
    assert file.path.stat().st_size < 0.62 * parent.path.stat().st_size
    names = [node.name for node in onnx.load(parent.path).graph.node]
    assert [node.name for node in proto.graph.node if node.op_type != "Cast"] == names
    assert {kept.node for kept in file.kept} <= set(names)
    assert {entry.key: entry.value for entry in proto.metadata_props}[PRECISION_KEY] == "fp16"
    paths = {node.name: {p.key: p.value for p in node.metadata_props} for node in proto.graph.node}
    inner = [n.name for n in proto.graph.node if n.op_type == "Cast" and n.name != "input/to_fp16"]
    assert all(MODULE_KEY in paths[name] for name in inner)


@pytest.mark.parametrize("name", NAMES)
def test_every_matrix_product_but_the_first_of_a_gate_is_float16(name: str, half: Callable[..., OnnxFile]) -> None:
    file = half(name)
    kept = {kept.node for kept in file.kept}
    for node in read(file.path).graph:
        if node.op_type in ("Conv", "Gemm"):
            types = {value.dtype for value in (*node.inputs, *node.outputs) if value is not None}
            assert types == {ir.DataType.FLOAT if node.name in kept else ir.DataType.FLOAT16}
            assert node.name not in kept or node.metadata_props[MODULE_KEY].endswith(FIRST_LAYERS)


@pytest.mark.parametrize("target", [Target.ANY, Target.TENSORRT])
@pytest.mark.parametrize("name", NAMES)
def test_a_typed_file_agrees(
    name: str, target: Target, half: Callable[..., OnnxFile], reference: Callable[[str], Reference]
) -> None:
    verdict = validate(half(name, target), reference(name), ONE_THREAD)
    assert verdict.agrees
    assert verdict.gates_missed == ""
    assert len([c for c in verdict.comparisons if c.role == "gate"]) == len(half(name, target).gates) > 0
    assert or_infinite(verdict.worst.ratio) < LARGEST_GOOD_RATIO < POLICIES[Precision.FP16].limit
    assert {c.limit for c in verdict.comparisons} == {POLICIES[Precision.FP16].limit}


def test_a_float16_file_is_no_float32_file(
    half: Callable[..., OnnxFile], reference: Callable[[str], Reference]
) -> None:
    file = replace(half("cbam_resnet8"), precision=Precision.FP32)
    assert not validate(file, reference("cbam_resnet8"), ONE_THREAD).agrees


def test_a_reference_without_the_baseline_is_a_wrong_call(
    half: Callable[..., OnnxFile], reference: Callable[[str], Reference]
) -> None:
    whole = reference("se_resnet8")
    with pytest.raises(ValueError, match="no baseline for fp16"):
        validate(
            half("se_resnet8"),
            replace(whole, baselines={Precision.FP32: whole.baselines[Precision.FP32]}),
            ONE_THREAD,
        )


def doubled(proto: onnx.ModelProto) -> None:
    index = next(i for i, n in enumerate(proto.graph.node) if n.op_type == "Sigmoid")
    node = proto.graph.node[index]
    name, node.output[0] = node.output[0], "once"
    proto.graph.node.insert(index + 1, helper.make_node("Tanh", ["once"], [name], name="twice"))


def swapped(proto: onnx.ModelProto) -> None:
    node = next(n for n in proto.graph.node if n.op_type == "ReduceMean")
    node.op_type = "ReduceMax"


def scaled(proto: onnx.ModelProto) -> None:
    tensor = next(t for t in proto.graph.initializer if len(t.dims) == 4 and t.dims[2] == 3)
    tensor.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(tensor) * 1.05).astype(np.float16), tensor.name))


def not_a_number(proto: onnx.ModelProto) -> None:
    tensor = next(t for t in proto.graph.initializer if len(t.dims) == 4)
    array = numpy_helper.to_array(tensor).copy()
    array.flat[0] = np.nan
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


@pytest.mark.parametrize("fault", [doubled, swapped, scaled, not_a_number])
@pytest.mark.parametrize("name", ["se_resnet8", "cbam_resnet8"])
def test_a_fault_is_found(
    name: str,
    fault: Callable[[onnx.ModelProto], None],
    half: Callable[..., OnnxFile],
    reference: Callable[[str], Reference],
    tmp_path: Path,
) -> None:
    proto = onnx.load(half(name).path)
    fault(proto)
    onnx.save(proto, tmp_path / "fault.onnx")
    assert not validate(replace(half(name), path=tmp_path / "fault.onnx"), reference(name), ONE_THREAD).agrees


# ---- planted overflow --------------------------------------------------------------------------------------------


def test_a_network_whose_activations_overflow_float16_stays_finite_and_agrees(tmp_path: Path) -> None:
    """Every BatchNorm of the first stage a hundred thousand times as large, and the next layers as much smaller."""
    model = make("se_resnet8")
    module: Any = model.module
    block = module.layer1[0]
    block.bn1.weight.data *= 1e5
    block.bn1.bias.data *= 1e5
    block.conv2.weight.data *= 1e-5
    images = batches(opened(model.inputs))
    reference = compute_reference(model, images, precisions=PRECISIONS)
    file = onnx_file.write(clean_graph(capture(model))[0], tmp_path / "a.onnx")
    made = typed_file(file, Precision.FP16, images, tmp_path / "b.onnx", 1)
    large = [kept for kept in made.kept if "too close to float16's maximum" in kept.reason]
    assert {kept.module_path.removeprefix("layer1.0.") for kept in large} & {"bn1", "conv1"}
    assert any(kept.op_type == "Relu" for kept in large)
    verdict = validate(made, reference, ONE_THREAD)
    assert verdict.agrees
    feeds = [{"input": batch.arrays["input"]} for batch in images]
    assert max(largest_values(parsed(made), feeds, 1, ir.DataType.FLOAT16).values()) <= FLOAT16.largest
    assert max(largest_values(parsed(file), feeds, 1).values()) > FLOAT16.largest


def test_an_overflow_that_was_not_foreseen_is_refused(
    plain: Callable[..., OnnxFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [{"input": batches(opened(only_input((3, 32, 32))))[0].arrays["input"] * 1e6}]

    def none_seen(file: ParsedFile, feeds: Any, threads: int, of: ir.DataType = ir.DataType.FLOAT) -> dict[str, float]:
        return {} if of == ir.DataType.FLOAT else largest_values(file, feeds, threads, of)

    monkeypatch.setattr("attn_export.exporter.precision.typed_file.largest_values", none_seen)
    with pytest.raises(CleanupError, match="beyond float16's maximum"):
        typed(parse(plain("se_resnet8").path), Precision.FP16, images, tmp_path / "b.onnx", 1)


# ---- ranges ------------------------------------------------------------------------------------------------------

SMALL = """<ir_version: 10, opset_import: ["" : 20]> main (float[N,3] x, int64[1] k) => (float[N,3] y)
{ a = Mul(x, w) b = Log(a) c = Max(b, zero) f = Cast <to = 1> (k) y = Add(c, f) }"""


def small() -> onnx.ModelProto:
    proto = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(SMALL))
    weights = {"w": np.full((3,), 100, np.float32), "zero": np.zeros(3, np.float32)}
    proto.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in weights.items())
    return onnx.shape_inference.infer_shapes(proto)


def feed(*numbers: float) -> dict[str, Any]:
    return {"x": np.array([numbers], np.float32), "k": np.array([7])}


def test_the_largest_values_are_those_of_all_runs_whatever_their_sign(saved: Any) -> None:
    file = parse(saved(small()))
    found = largest_values(file, [feed(1, 2, 3), feed(0.001, 5, 1)], 1)
    assert set(found) == {"x", "a", "b", "c", "f", "y"}
    assert (found["x"], found["a"], found["f"]) == (5, 500, 7)
    assert found["b"] == pytest.approx(np.log(500))
    assert largest_values(file, [feed(1e-5, 0.01, 0.01)], 1)["b"] == pytest.approx(np.log(1000), rel=1e-3)


@pytest.mark.parametrize("number", [-1, 0])
@pytest.mark.parametrize("place", range(3))
def test_nan_and_infinity_are_infinite_wherever_they_stand(number: float, place: int, saved: Any) -> None:
    numbers = [1.0, 2.0, 3.0]
    numbers[place] = number
    found = largest_values(parse(saved(small())), [feed(*numbers), feed(1, 1, 1)], 1)
    assert found["b"] == float("inf")
    assert np.isfinite(found["a"])


def test_weights_outside_of_the_file_are_found(plain: Callable[..., OnnxFile], tmp_path: Path) -> None:
    model = read(plain("se_resnet8").path)
    onnx_file.save(model, tmp_path / "large.onnx", largest_inside=0)
    assert (tmp_path / "large.onnx.data").exists()
    feeds = [{"input": np.ones((1, 3, 32, 32), np.float32)}]
    large = parse(tmp_path / "large.onnx")
    assert largest_values(large, feeds, 1) == largest_values(parsed(plain("se_resnet8")), feeds, 1)


def test_images_that_do_not_fit_are_reported(plain: Callable[..., OnnxFile]) -> None:
    with pytest.raises(InputError, match="can't run"):
        largest_values(parsed(plain("se_resnet8")), [{"input": np.ones((1, 4, 32, 32), np.float32)}], 1)


# ---- without a checkpoint ----------------------------------------------------------------------------------------


def feeds(name: str) -> list[dict[str, Any]]:
    return [{"input": batch.arrays["input"]} for batch in batches(opened(make(name).inputs))]


@pytest.mark.parametrize("name", NAMES)
def test_a_typed_file_agrees_with_its_parent(
    name: str, plain: Callable[..., OnnxFile], half: Callable[..., OnnxFile]
) -> None:
    rounding = compare_with_parent(parsed(plain(name)), parsed(half(name)), Precision.FP16, feeds(name), 1).worst
    assert rounding.ratio is not None
    assert rounding.tensor == "output"
    assert 0 < rounding.ratio < LARGEST_GOOD_RATIO < rounding.limit


@pytest.mark.parametrize("fault", [doubled, swapped, not_a_number])
def test_a_fault_is_a_disagreement_with_the_parent(
    fault: Callable[[onnx.ModelProto], None],
    plain: Callable[..., OnnxFile],
    half: Callable[..., OnnxFile],
    saved: Any,
) -> None:
    proto = onnx.load(half("se_resnet8").path)
    fault(proto)
    with pytest.raises(DisagreementError, match="doesn't compute what"):
        compare_with_parent(parsed(plain("se_resnet8")), parse(saved(proto)), Precision.FP16, feeds("se_resnet8"), 1)


def test_a_parent_that_does_not_run_is_reported(plain: Callable[..., OnnxFile], half: Callable[..., OnnxFile]) -> None:
    files = parsed(plain("se_resnet8")), parsed(half("se_resnet8"))
    with pytest.raises(InputError, match="can't run"):
        compare_with_parent(*files, Precision.FP16, [{"input": np.ones(3, "f4")}], 1)


def test_a_file_knows_its_precision_whoever_made_it(
    plain: Callable[..., OnnxFile], half: Callable[..., OnnxFile], saved: Any
) -> None:
    proto = onnx.load(half("se_resnet8").path)
    del proto.metadata_props[:]
    del proto.graph.value_info[:]
    assert read_source(saved(proto)).precision is Precision.FP16
    assert read_source(plain("se_resnet8").path).precision is Precision.FP32


def test_the_verdict_of_the_parent_is_not_handed_on(plain: Callable[..., OnnxFile], tmp_path: Path) -> None:
    source = tmp_path / "a.onnx"
    source.write_bytes(plain("se_resnet8").path.read_bytes())
    onnx_file.add_metadata(source, {"attn_export.validation": "{}", "attn_export.architecture": "x"})
    _, kept = typed(parse(source), Precision.FP16, feeds("se_resnet8"), tmp_path / "b.onnx", 1)
    keys = {entry.key for entry in onnx.load(tmp_path / "b.onnx").metadata_props}
    assert "attn_export.validation" not in keys
    assert "attn_export.architecture" in keys
    assert kept
    assert all(isinstance(k, Float32Node) for k in kept)


# ---- TensorRT-RTX ------------------------------------------------------------------------------------------------


@pytest.fixture
def rtx() -> Any:
    return pytest.importorskip("tensorrt_rtx")


@pytest.mark.parametrize("name", NAMES)
def test_tensorrt_builds_it_as_it_is_typed(name: str, half: Callable[..., OnnxFile], rtx: Any) -> None:
    class Log(rtx.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            rtx.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if int(severity) <= 1 and "cuda" not in message.lower():
                self.errors.append(message)

    log = Log()
    with uncollected():
        builder = rtx.Builder(log)
    network = builder.create_network(1 << int(rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = rtx.OnnxParser(network, log)
    assert parser.parse_from_file(str(half(name, Target.TENSORRT).path)), log.errors
    config, profile, value = (
        builder.create_builder_config(),
        builder.create_optimization_profile(),
        network.get_input(0),
    )
    assert (value.dtype, network.get_output(0).dtype) == (rtx.float32, rtx.float32)
    shape = tuple(value.shape)[1:]
    profile.set_shape(value.name, (1, *shape), (2, *shape), (4, *shape))
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    config.set_compute_capability(rtx.ComputeCapability.SM86, 0)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None, log.errors
