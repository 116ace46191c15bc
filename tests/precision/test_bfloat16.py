"""bfloat16: what stays in float32, the operator set, the answers of trained networks, and engines."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from sklearn.datasets import load_digits

from attn_export.exporter.artifacts import OnnxFile, Precision
from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.engine.settings import EngineSettings
from attn_export.exporter.errors import DisagreementError
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.graph.read import parse, parsed
from attn_export.exporter.graph.session import PlainSession
from attn_export.exporter.network.axes import opened
from attn_export.exporter.network.batches import batches
from attn_export.exporter.precision.rounding import BFLOAT16
from attn_export.exporter.precision.typed_file import typed_file
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.runtimes.evaluator import evaluated
from attn_export.exporter.validation.converted_source import compare_with_parent
from attn_export.exporter.workflows.build import build_all
from tests.faults.planting import DIGITS, Subject
from tests.precision.conftest import typed

CONV = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
IMAGES = 200


def test_weights_and_layers_are_bfloat16_and_sums_are_not() -> None:
    made = typed(
        "(float[N,3,12,12] x) => (float[N,4,1,1] y) { c = Conv(x, w) r = Relu(c) m = GlobalAveragePool(r) y = Neg(m) }",
        opset=22,
        kind=BFLOAT16,
        w=CONV,
    )
    assert made.types["w"] == made.types["c"] == made.types["r"] == ir.DataType.BFLOAT16
    assert made.types["m"] == ir.DataType.FLOAT
    assert made.reasons == {"node_m": "it sums 100 elements"}


def test_what_overflows_or_vanishes_in_float16_alone_is_converted() -> None:
    made = typed(
        "(float[N,3,8,8] x) => (float[N,4,6,6] y) { c = Conv(x, w) r = Relu(c) y = Mul(r, k) }",
        {"c": 3e7, "r": 3e7},
        opset=22,
        kind=BFLOAT16,
        w=CONV * np.float32(1e7),
        k=np.array(1e-7, np.float32),
    )
    assert made.kept == ()


def test_values_near_the_end_of_float32_stay_in_float32() -> None:
    text = "(float[3] x) => (float[3] y) { a = Exp(x) y = Log(a) }"
    assert set(typed(text, {"a": 1e38}, opset=22, kind=BFLOAT16).reasons) == {"node_a", "node_y"}


def test_coordinates_and_squares_stay_in_float32() -> None:
    text = "(float[2,3] x) => (float[2,1] y) { a = Relu(x) y = ReduceL2 <keepdims = 1> (a, axes) }"
    made = typed(text, opset=22, kind=BFLOAT16, axes=np.array([1], np.int64))
    assert made.reasons == {"node_y": "it sums squares, which overflow or lose digits"}


def held_out(name: str) -> Array:
    """Digits that the network wasn't trained on, as examples/digits makes its images."""
    small = torch.tensor(load_digits().images[-IMAGES:, None], dtype=torch.float32) / 16
    pixels = torch.nn.functional.interpolate(small, size=(16, 16), mode="bilinear").numpy()
    normalization = load(DIGITS / f"{name}.pt").normalization
    assert normalization is not None
    return np.asarray((pixels - normalization.mean[0]) / normalization.std[0], np.float32)


def converted(name: str, folder: Path) -> tuple[OnnxFile, OnnxFile]:
    file = Subject(name, folder).file
    images = batches(opened(file.signature.inputs))
    return file, typed_file(file, Precision.BF16, images, folder / f"{name}.bf16.onnx", 1)


@pytest.mark.parametrize("name", ["se_digits", pytest.param("cbam_digits", marks=pytest.mark.full)])
def test_a_trained_network_loses_no_prediction(name: str, tmp_path: Path) -> None:
    file, made = converted(name, tmp_path)
    assert (file.opset, made.opset) == (20, 22)
    assert [gate.module_path for gate in made.gates] == [gate.module_path for gate in file.gates]
    feed = {"input": held_out(name)}
    (output,) = file.signature.output_names
    exact, found = PlainSession(file.path, 1).run(feed)[output], evaluated(made.path, [output], [feed])[output][0]
    assert (found.argmax(1) == exact.argmax(1)).all()
    assert 0 < np.linalg.norm(found - exact) < 0.02 * np.linalg.norm(exact)


def test_without_a_checkpoint_it_agrees_with_its_source_and_a_wrong_weight_does_not(tmp_path: Path) -> None:
    file, made = converted("se_digits", tmp_path)
    feeds = [{"input": held_out("se_digits")[:4]}]
    verdict = compare_with_parent(parsed(file), parsed(made), Precision.BF16, feeds, 1)
    assert verdict.runtime == "onnx reference evaluator"
    assert (verdict.worst.ratio or 0) < 2.0
    wrong = parsed(made).copy()
    weight = next(node for node in wrong.graph if node.op_type == "Conv").inputs[1]
    assert weight is not None
    assert weight.const_value is not None
    weight.const_value = ir.tensor(BFLOAT16.rounded(weight.const_value.numpy().astype(np.float32) * 1.2))
    onnx_file.save(wrong, tmp_path / "wrong.onnx")
    with pytest.raises(DisagreementError, match="the bfloat16 file doesn't compute what"):
        compare_with_parent(parsed(file), parse(tmp_path / "wrong.onnx"), Precision.BF16, feeds, 1)


def test_tensorrt_builds_it_in_bfloat16(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    file = Subject("se_digits", tmp_path).file
    settings = EngineSettings(gpus=("sm86",), count_ablated=False)
    result = build_all(file.path, precisions=[Precision.BF16], settings=settings, threads=1)
    record = result.engines[0].record
    assert record.precision.requested == "bf16"
    assert record.precision.mixed == ()
    assert "BFLOAT16" in record.kernels.types
    assert [change.path.name for change in result.retyped] == ["se_digits.bf16.onnx"]
    again = build_all(file.path, precisions=[Precision.BF16], settings=replace(settings), threads=1)
    assert again.retyped == ()  # the earlier file agrees, and is used as it is
