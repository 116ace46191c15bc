"""Quantization of trained networks: where it happens, that the file computes it, and how good it is."""

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from PIL import Image
from sklearn.datasets import load_digits

from attn_export.cli import run
from attn_export.exporter.artifacts import MODULE_KEY, Normalization, Target
from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.cleanup.inspect import blocks_of
from attn_export.exporter.engine.settings import EngineSettings
from attn_export.exporter.errors import DisagreementError, InputError, UsageError
from attn_export.exporter.graph.read import parse
from attn_export.exporter.images.preprocessing import PictureOptions
from attn_export.exporter.precision.int8.placement import NARROW, Choices, place
from attn_export.exporter.precision.int8.quality import worst
from attn_export.exporter.precision.int8.ranges import Method
from attn_export.exporter.precision.int8.rounding import Rounding
from attn_export.exporter.precision.int8.settings import QuantizeSettings
from attn_export.exporter.records.quantization import Quantization
from attn_export.exporter.records.verdict import QualityRequirement
from attn_export.exporter.workflows.clean import clean_file
from attn_export.exporter.workflows.quantize import quantize_file
from tests.engine.building import build_file
from tests.faults.planting import DIGITS, Subject

NETWORKS = ("se_digits", "cbam_digits")
ONE_THREAD = QuantizeSettings(threads=1)
FAST = replace(ONE_THREAD, method=Method.MINMAX, rounding=Rounding.NEAREST)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cleaned networks, calibration images and held-out images, and images that aren't normalized."""
    folder = tmp_path_factory.mktemp("int8")
    small = torch.tensor(load_digits().images[:, None], dtype=torch.float32) / 16
    pixels = torch.nn.functional.interpolate(small, size=(16, 16), mode="bilinear").numpy()  # as in examples/digits
    for name in NETWORKS:
        assert Subject(name, folder).file.path == folder / f"{name}.onnx"
        normalization = load(DIGITS / f"{name}.pt").normalization
        assert normalization is not None
        images = (pixels - normalization.mean[0]) / normalization.std[0]
        np.save(folder / f"{name}.calibration.npy", images[:64].astype(np.float32))
        np.save(folder / f"{name}.other.npy", images[1000:1200].astype(np.float32))
    np.save(folder / "raw.npy", pixels[:16] * 255)
    return folder


@pytest.fixture(scope="module")
def quantize(files: Path) -> Callable[..., tuple[Path, Quantization]]:
    def make(name: str, settings: QuantizeSettings = FAST, **options: Any) -> tuple[Path, Quantization]:
        out = files / f"{name}.int8.onnx"
        given = {"held_out": files / f"{name}.other.npy", **options}
        calibration = given.pop("calibration", files / f"{name}.calibration.npy")
        return out, quantize_file(files / f"{name}.onnx", out, calibration, settings=settings, **given)

    return make


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("runtime", [Target.TENSORRT, Target.ONNXRUNTIME])
def test_a_trained_network_keeps_its_answers(
    name: str, runtime: Target, quantize: Callable[..., tuple[Path, Quantization]]
) -> None:
    _, record = quantize(name, replace(ONE_THREAD, choices=Choices(runtime)))
    assert record.held_out is not None
    assert record.held_out.agreement is not None
    assert record.held_out.agreement >= 0.99
    assert min(value or 0 for value in record.held_out.sqnr_db.values()) > 34
    kept = [worst(step.quality) for step in record.steps if step.kept]
    assert kept == sorted(kept)
    assert worst(record.quality) == pytest.approx(kept[-1], abs=0.1)


def test_attention_stays_in_float32_and_residual_sums_read_one_quantized_input(
    quantize: Callable[..., tuple[Path, Quantization]],
) -> None:
    path, record = quantize("cbam_digits")
    model = onnx.load(path)
    readers = {node.name: node for node in model.graph.node}
    blocks = json.loads(next(p.value for p in model.metadata_props if p.key == "attn_export.inventory"))
    for block in blocks:
        for name in block["nodes"]:
            assert not any(value.endswith(".dequantized") for value in readers[name].input), name
    assert {node.reason.partition(" ")[0] for node in record.kept} == {"CBAM", "narrow"}
    sums = [node for node in model.graph.node if node.op_type == "Add" and node.name not in str(blocks)]
    assert sums
    for node in sums:
        assert sum(value.endswith(".dequantized") for value in node.input) == 1


def test_tensorrt_gets_symmetric_int8_and_float_biases_and_builds(
    quantize: Callable[..., tuple[Path, Quantization]], tmp_path: Path
) -> None:
    path, record = quantize("cbam_digits")
    model = onnx.load(path)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert not stored[node.input[2]].any()
            assert stored[node.input[2]].dtype == np.int8
    assert all(
        stored[n.input[2]].dtype == np.float32 for n in model.graph.node if n.op_type == "Conv" and len(n.input) > 2
    )
    built = build_file(path, tmp_path / "a.engine", EngineSettings(gpus=("sm86",), count_ablated=False)).record
    for layer in record.layers:
        reads = {kind for kernel in built.kernels.kernels if layer.node in kernel.nodes for kind in kernel.reads}
        assert "INT8" in reads, layer.node


def test_the_file_says_how_it_was_made_and_agrees_with_its_checkpoint(
    quantize: Callable[..., tuple[Path, Quantization]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, record = quantize("se_digits")
    kept = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert kept["attn_export.precision"] == "int8"
    assert json.loads(kept["attn_export.quantization"])["calibration"] == record.calibration
    assert run(["validate", str(DIGITS / "se_digits.pt"), str(path), "--threads", "1", "--quiet"]) == 0
    assert "agrees" in capsys.readouterr().out


def test_the_network_is_required_on_the_users_images_alone_where_there_are_any(
    files: Path, quantize: Callable[..., tuple[Path, Quantization]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Noise is far from the digits that the ranges were chosen for."""
    path, _ = quantize("se_digits")
    np.save(files / "few.npy", np.load(files / "se_digits.other.npy")[:13])
    command = ["validate", str(DIGITS / "se_digits.pt"), str(path), "--threads", "1", "--quiet", "--json"]
    assert run([*command, "--require", "sqnr=30,agreement=1"]) == 1
    capsys.readouterr()
    assert run([*command, "--require", "sqnr=30,agreement=1", "--images", str(files / "few.npy")]) == 0
    assert json.loads(capsys.readouterr().out)["artifacts"][0]["quantized"]["images"] == 13


def test_a_file_calibrated_on_images_without_normalization_is_not_written(
    files: Path, quantize: Callable[..., tuple[Path, Quantization]]
) -> None:
    (files / "se_digits.int8.onnx").unlink(missing_ok=True)
    settings = replace(FAST, requirement=QualityRequirement(20, None))
    with pytest.raises(DisagreementError, match="dB, and 20 are required") as caught:
        quantize("se_digits", settings, calibration=files / "raw.npy")
    assert "The worst layers: " in caught.value.hint
    assert not (files / "se_digits.int8.onnx").exists()


def test_exclusions_and_gates_choose_the_layers(files: Path) -> None:
    parsed = parse(files / "cbam_digits.onnx")
    blocks = blocks_of(parsed)

    def layers(**choices: Any) -> set[str]:
        model = parsed.copy()
        return {node.name or "" for node in place(model.graph, blocks, Choices(**choices)).layers}

    usual, without = layers(), layers(exclude=("layer1",))
    modules = {node.name or "": node.metadata_props[MODULE_KEY] for node in parsed.model.graph}
    assert without == {name for name in usual if not modules[name].startswith("layer1.")}
    assert without < usual
    with pytest.raises(UsageError, match="--exclude layer9 is no node and no module"):
        layers(exclude=("layer9",))
    with pytest.raises(UsageError, match="no layer is left"):
        layers(exclude=tuple(usual))
    for tensor in parsed.model.graph.initializers.values():
        if tensor.const_value is not None and tensor.const_value.dtype == ir.DataType.FLOAT:
            tensor.const_value = ir.tensor(tensor.const_value.numpy().astype(np.float16), name=tensor.name)
    with pytest.raises(UsageError, match="no layer outside of attention has constant float32 weights") as refused:
        layers()
    assert "Quantize the float32 file" in str(refused.value.hint)


@pytest.mark.parametrize("runtime", [Target.TENSORRT, Target.ONNXRUNTIME])
def test_layers_without_blocks_of_16_stay_in_float32_for_tensorrt(runtime: Target, files: Path) -> None:
    """The first convolution, with 9 products in each sum, and the classifier of 10 digits."""
    kept = place(parse(files / "se_digits.onnx").copy().graph, (), Choices(runtime)).kept
    narrow = {node.module_path for node in kept if node.reason == NARROW}
    assert {"bn1", "fc"} <= narrow if runtime is Target.TENSORRT else not kept


@pytest.mark.parametrize("gates", [False, True])
def test_products_with_gates_read_both_inputs_quantized_or_neither(gates: bool, files: Path) -> None:
    parsed = parse(files / "cbam_digits.onnx")
    blocks = blocks_of(parsed)
    placement = place(parsed.copy().graph, blocks, Choices(gates=gates))
    names = {name for block in blocks for name in block.nodes}
    reads = [(node.name, index) for node, index in placement.reads if node.op_type == "Mul" and node.name in names]
    products = sum(len(block.maps) for block in blocks)
    assert len(reads) == (2 * products if gates else 0)
    assert not any(node.name in names for node in placement.layers)  # the digits networks' gates are narrow


@pytest.mark.parametrize("gates", [None, False])
def test_onnxruntime_multiplies_with_gates_in_int8_and_without_resizing_them(
    gates: bool | None, tmp_path: Path
) -> None:
    """A product with a gate that was resized to its map, as the form for ONNX Runtime has it."""
    stored: dict[str, Any] = {"w": np.ones((16, 3, 1, 1), np.float32), "s": np.array([1, 1, 4, 4], np.float32)}
    resize = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("GlobalAveragePool", ["c"], ["p"], name="pool"),
        helper.make_node("Conv", ["p", "squeeze"], ["h"], name="squeeze"),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "expand"], ["e"], name="expand"),
        helper.make_node("Sigmoid", ["e"], ["g"], name="sigmoid"),
        helper.make_node("Resize", ["g", "", "s"], ["large"], name="resize", **resize),
        helper.make_node("Mul", ["c", "large"], ["y"], name="product"),
    ]
    rng = np.random.default_rng(0)
    stored |= {"squeeze": rng.standard_normal((8, 16, 1, 1)), "expand": rng.standard_normal((16, 8, 1, 1))}
    ends = [helper.make_tensor_value_info(name, 1, ["N", size, 4, 4]) for name, size in (("x", 3), ("y", 16))]
    weights = [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in stored.items()]
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(onnx.shape_inference.infer_shapes(model), tmp_path / "a.onnx")
    np.save(tmp_path / "images.npy", rng.standard_normal((8, 3, 4, 4)).astype(np.float32))
    settings = replace(FAST, choices=Choices(Target.ONNXRUNTIME, gates))
    record = quantize_file(tmp_path / "a.onnx", tmp_path / "b.onnx", tmp_path / "images.npy", settings=settings)
    assert worst(record.quality) > 30
    written = onnx.load(tmp_path / "b.onnx").graph.node
    product = next(node for node in written if node.name == "product")
    assert ("Resize" in {node.op_type for node in written}) == (gates is False)
    assert all(value.endswith(".dequantized") for value in product.input[1:]) == (gates is None)


@pytest.mark.parametrize("target", [Target.ANY, Target.ONNXRUNTIME])
def test_onnxruntime_computes_cbam_in_integers_from_the_first_layer_to_the_last(
    target: Target, files: Path, tmp_path: Path
) -> None:
    """In the canonical form and in its own for float32: pools, summaries, spatial convolution and classifier."""
    source, made, shown = (tmp_path / f"{name}.onnx" for name in ("a", "b", "c"))
    clean_file(files / "cbam_digits.onnx", source, target=target)
    settings = replace(FAST, choices=Choices(Target.ONNXRUNTIME))
    quantize_file(source, made, files / "cbam_digits.calibration.npy", settings=settings)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(shown)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(made, options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(shown).graph.node)
    assert kinds["DequantizeLinear"] == 0
    assert kinds["QuantizeLinear"] == 1
    assert not kinds.keys() & {"Conv", "Gemm", "Mul", "Sigmoid", "ReduceMean", "GlobalMaxPool", "Resize", "Concat"}
    assert kinds["ReduceMax"] == kinds["QLinearConcat"] > 0


@pytest.mark.parametrize("op_type", ["Gemm", "MatMul"])
def test_onnxruntime_computes_scores_with_integers_and_does_not_round_them(op_type: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    nodes = [helper.make_node(op_type, ["x", "w"], ["s"], name="fc"), helper.make_node("Softmax", ["s"], ["y"])]
    ends = [helper.make_tensor_value_info(name, 1, ["N", size]) for name, size in (("x", 32), ("y", 16))]
    weights = [numpy_helper.from_array(rng.standard_normal((32, 16)).astype(np.float32), "w")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "a.onnx")
    np.save(tmp_path / "images.npy", rng.standard_normal((8, 32)).astype(np.float32))
    settings = replace(FAST, choices=Choices(Target.ONNXRUNTIME))
    quantize_file(tmp_path / "a.onnx", tmp_path / "b.onnx", tmp_path / "images.npy", settings=settings)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "c.onnx")
    onnxruntime.InferenceSession(tmp_path / "b.onnx", options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "c.onnx").graph.node)
    assert kinds["QuantizeLinear"] == kinds["Softmax"] == 1
    assert not kinds.keys() & {"Gemm", "MatMul", "DequantizeLinear"}


def test_a_bias_is_corrected_to_the_mean_of_the_float_layer(tmp_path: Path) -> None:
    """Two layers whose outputs are far from zero on average, so that rounding moves their means."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 3, bias=False))
    source = tmp_path / "a.onnx"
    names = {"input_names": ["input"], "output_names": ["output"], "dynamic_axes": {"input": {0: "n"}}}
    torch.onnx.export(network, (torch.zeros(1, 3, 12, 12),), str(source), dynamo=False, opset_version=17, **names)  # type: ignore[arg-type]
    np.save(tmp_path / "images.npy", np.random.default_rng(0).uniform(0, 3, (32, 3, 12, 12)).astype(np.float32))
    made = quantize_file(source, tmp_path / "b.onnx", tmp_path / "images.npy", settings=FAST)
    plain = replace(FAST, correct_bias=False)
    without = quantize_file(source, tmp_path / "c.onnx", tmp_path / "images.npy", settings=plain)
    assert [step.name for step in made.steps] == ["ranges by minmax", "bias correction"]
    assert made.steps[0] == without.steps[0]
    assert (made.quality.sqnr_db["output"] or 0) > (without.quality.sqnr_db["output"] or 0)
    biases = [len(node.input) for node in onnx.load(tmp_path / "b.onnx").graph.node if node.op_type == "Conv"]
    assert biases == [3, 3]


def graph(*nodes: Any, opset: int = 17, width: int = 4, batch: int | str = "N") -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "w")
    ends = [
        helper.make_tensor_value_info(*end) for end in (("x", 1, [batch, 3, 4, width]), ("y", 1, [batch, 2, 4, width]))
    ]
    made = helper.make_graph(list(nodes), "g", ends[:1], ends[1:], [weight])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def test_an_older_opset_is_raised(tmp_path: Path) -> None:
    """A Squeeze has its axes in an attribute before opset 13, and in an input from then on."""
    squeeze = helper.make_node("Squeeze", ["c"], ["s"], axes=[3], name="squeeze")
    again = helper.make_node("Unsqueeze", ["s"], ["y"], axes=[3], name="unsqueeze")
    model = graph(helper.make_node("Conv", ["x", "w"], ["c"], name="conv"), squeeze, again, opset=11, width=1)
    onnx.save(model, tmp_path / "a.onnx")
    np.save(tmp_path / "images.npy", np.random.default_rng(0).standard_normal((8, 3, 4, 1)).astype(np.float32))
    record = quantize_file(tmp_path / "a.onnx", tmp_path / "b.onnx", tmp_path / "images.npy", settings=FAST)
    assert (record.quality.sqnr_db["y"] or 0) > 30
    assert [layer.node for layer in record.layers] == ["conv"]
    assert onnx.load(tmp_path / "b.onnx").opset_import[0].version == 13


CONV = helper.make_node("Conv", ["x", "w"], ["y"], name="conv")


@pytest.mark.parametrize(
    ("model", "images", "message"),
    [
        (graph(CONV, batch=8), (4, 3, 4, 4), "holds 4 images, and the file takes 8 at once"),
        (graph(CONV), (4, 1, 4, 4), "and the network takes"),
    ],
)
def test_what_can_not_be_quantized_is_said(
    model: onnx.ModelProto, images: tuple[int, ...], message: str, tmp_path: Path
) -> None:
    onnx.save(model, tmp_path / "a.onnx")
    np.save(tmp_path / "images.npy", np.ones(images, np.float32))
    with pytest.raises(InputError, match=message):
        quantize_file(tmp_path / "a.onnx", tmp_path / "b.onnx", tmp_path / "images.npy", settings=FAST)
    assert not (tmp_path / "b.onnx").exists()


@pytest.mark.parametrize("images", [np.ones((1, 3, 4, 4)), np.zeros((3, 3, 4, 4)), np.full((2, 3, 4, 4), -7.0)])
@pytest.mark.parametrize("rounding", Rounding)
def test_one_image_and_constant_activations_are_quantized(
    images: np.ndarray[Any, Any], rounding: Rounding, tmp_path: Path
) -> None:
    onnx.save(graph(CONV), tmp_path / "a.onnx")
    np.save(tmp_path / "images.npy", images.astype(np.float32))
    settings = replace(ONE_THREAD, rounding=rounding)
    record = quantize_file(tmp_path / "a.onnx", tmp_path / "b.onnx", tmp_path / "images.npy", settings=settings)
    assert worst(record.quality) > 30
    assert np.isfinite([tensor.scale for tensor in record.tensors]).all()


def test_names_of_pictures_need_not_be_utf8(tmp_path: Path) -> None:
    onnx.save(graph(CONV), tmp_path / "a.onnx")
    (tmp_path / "photos").mkdir()
    for name in (b"a\xff.png", b"b.png"):
        Image.new("RGB", (4, 4), (9, 99, 199)).save(tmp_path / "photos" / os.fsdecode(name))
    (tmp_path / "photos" / os.fsdecode(b"notes\xff.txt")).write_text("")
    how = PictureOptions(Normalization((0.5,), (0.5,)), resize=(4, 4))
    quantize_file(tmp_path / "a.onnx", tmp_path / "b.onnx", tmp_path / "photos", pictures=how, settings=FAST)
    kept = {entry.key: entry.value for entry in onnx.load(tmp_path / "b.onnx").metadata_props}
    assert json.loads(kept["attn_export.quantization"])["source"]["left_out"] == ["notes\\udcff.txt"]


def test_the_first_node_that_computes_no_number_is_named(tmp_path: Path) -> None:
    """The logarithm of a negative pixel; what follows it is NaN as well."""
    log = helper.make_node("Log", ["c"], ["l"], name="log", doc_string="")
    last = helper.make_node("Relu", ["l"], ["y"], name="relu")
    model = graph(helper.make_node("Conv", ["x", "w"], ["c"], name="conv"), log, last)
    onnx.save(model, tmp_path / "a.onnx")
    np.save(tmp_path / "images.npy", np.full((2, 3, 4, 4), -1, np.float32))
    with pytest.raises(InputError, match="log of the graph is NaN or infinite on a calibration image, and nothing"):
        quantize_file(tmp_path / "a.onnx", tmp_path / "b.onnx", tmp_path / "images.npy", settings=FAST)


def test_a_quantized_file_is_not_quantized_again(
    quantize: Callable[..., tuple[Path, Quantization]], files: Path
) -> None:
    path, _ = quantize("se_digits")
    with pytest.raises(InputError, match="is quantized already, by QuantizeLinear"):
        quantize_file(path, files / "again.onnx", files / "se_digits.calibration.npy")


def test_the_command_needs_images_and_prints_the_quality(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(files / "se_digits.onnx")
    assert run(["quantize", source]) == 2
    assert "--calibration DIR" in capsys.readouterr().err
    words = ["quantize", source, "--calibration", str(files / "se_digits.calibration.npy"), "--ranges", "minmax"]
    assert run([*words, "--threads", "1", "--quiet", "-o", str(files / "out.onnx")]) == 0
    printed = capsys.readouterr().out
    assert "bias correction" in printed
    assert "int8 for tensorrt: 8 layers" in printed
    assert run([*words, "--threads", "1", "--quiet", "--json", "-o", str(files / "out.onnx")]) == 0
    assert json.loads(capsys.readouterr().out)["runtime"] == "tensorrt"
    assert run([*words[:-1], "median"]) == 2
