"""Files that quantizers make, of any format and opset: they are recognized, and what they say is computed."""

import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static

from attn_export.exporter.artifacts import only_input
from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.errors import DisagreementError
from attn_export.exporter.network.batches import nominal_batches
from attn_export.exporter.records.verdict import QualityRequirement
from attn_export.exporter.runtimes.evaluator_operators import operators_for
from attn_export.exporter.workflows.validate import validate_artifacts
from tests.faults.planting import Subject
from tests.faults.quantization import Images
from tests.numbers import or_infinite

OPSETS = (13, 17, 20)
logging.getLogger().setLevel(logging.ERROR)  # the quantizer recommends to prepare the file first


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return cache(lambda name: Subject(name, tmp_path_factory.mktemp(name)))("se_digits")


@pytest.fixture(scope="module")
def quantize(subject: Subject) -> Callable[..., Path]:
    """``quantize(name, **options)`` is the network by ONNX Runtime's own tool; of another opset with ``opset``."""

    def make(name: str, *, opset: int = 20, dynamic: bool = False, images: Any = None, **options: Any) -> Path:
        source, path = subject.folder / f"{opset}.onnx", subject.folder / f"{name}.onnx"
        if not source.exists():
            example, axes = torch.zeros(2, *subject.model.inputs[0].shape[1:]), {"input": {0: "n"}, "output": {0: "n"}}
            named: dict[str, Any] = {"input_names": ["input"], "output_names": ["output"], "dynamic_axes": axes}
            module = subject.model.module.eval()
            torch.onnx.export(module, (example,), str(source), dynamo=False, opset_version=opset, **named)
        if dynamic:
            quantize_dynamic(str(source), str(path), **options)
        else:
            images = images or [batch.arrays["input"] for batch in nominal_batches(subject.model.inputs, 4, 12)]
            quantize_static(str(source), str(path), Images(images), **options)
        return path

    return make


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("kind", [QuantType.QInt8, QuantType.QUInt8], ids=["int8", "uint8"])
def test_every_opset_is_judged(opset: int, kind: QuantType, subject: Subject, quantize: Callable[..., Path]) -> None:
    options = {"quant_format": QuantFormat.QDQ, "activation_type": kind, "weight_type": kind}
    (found,) = validate_artifacts(subject.model, [quantize(f"qdq{opset}", opset=opset, **options)], threads=1)
    assert found.error is None
    assert found.artifact is not None
    assert found.artifact.quantized_type == ("int8" if kind is QuantType.QInt8 else "uint8")
    assert found.verdict is not None
    assert found.verdict.runtime == "onnxruntime"
    assert found.quality is not None
    assert or_infinite(found.quality.sqnr_db["output"]) > 15


class BeforeIts(torch.nn.Module):
    """A BatchNorm that no convolution precedes, so that none takes it in."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.conv, self.fc = torch.nn.BatchNorm2d(3), torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 5)
        self.bn.running_mean = torch.tensor([0.5, -0.5, 0.1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.relu(self.conv(self.bn(x))).mean((2, 3)))


def test_batch_normalization_of_an_old_opset_does_not_train(tmp_path: Path) -> None:
    module, shape, found = BeforeIts().eval(), (3, 8, 8), {}
    for opset in (11, 17):
        source, path = tmp_path / f"{opset}.onnx", tmp_path / f"{opset}.int8.onnx"
        named: dict[str, Any] = {"input_names": ["input"], "dynamic_axes": {"input": {0: "n"}}}
        torch.onnx.export(module, (torch.zeros(2, *shape),), str(source), dynamo=False, opset_version=opset, **named)
        images = Images([batch.arrays["input"] for batch in nominal_batches(only_input(shape), 4, 12)])
        quantize_static(str(source), str(path), images, op_types_to_quantize=["Conv", "Gemm"])
        (result,) = validate_artifacts(from_module(module, shape), [path], threads=1)
        assert result.error is None
        assert result.quality is not None
        found[opset] = next(iter(result.quality.sqnr_db.values()))
    assert found[11] == pytest.approx(found[17], abs=0.1)


def test_scales_that_are_found_while_it_runs_are_computed_too(subject: Subject, quantize: Callable[..., Path]) -> None:
    path = quantize("dynamic", dynamic=True)
    assert {"DynamicQuantizeLinear", "ConvInteger"} <= {node.op_type for node in onnx.load(path).graph.node}
    (found,) = validate_artifacts(subject.model, [path], threads=1)
    assert found.error is None
    assert found.artifact is not None
    assert found.artifact.quantized_type == "uint8"
    assert found.quality is not None
    assert or_infinite(found.quality.sqnr_db["output"]) > 15


def test_sixteen_bits_in_onnx_runtimes_own_domain_are_judged(subject: Subject, quantize: Callable[..., Path]) -> None:
    """ONNX Runtime isn't exact there: its optimizer makes MatMulNBits of a layer, which rounds to int8 once more."""
    options = {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QUInt16}
    path = quantize("wide", extra_options={"UseQDQContribOps": True}, **options)
    assert any(node.domain == "com.microsoft" for node in onnx.load(path).graph.node)
    (found,) = validate_artifacts(subject.model, [path], threads=1)
    assert found.verdict is not None
    assert or_infinite(found.verdict.worst.error) < 1e-3
    assert found.quality is not None
    assert or_infinite(found.quality.sqnr_db["output"]) > 15


def test_operators_on_whole_numbers_are_judged_like_pairs(subject: Subject, quantize: Callable[..., Path]) -> None:
    """ONNX Runtime's own too, such as QLinearSigmoid."""
    path = quantize("operators", quant_format=QuantFormat.QOperator)
    assert {"QLinearSigmoid", "QGemm"} <= {node.op_type for node in onnx.load(path).graph.node}
    (found,) = validate_artifacts(subject.model, [path], threads=1)
    assert found.error is None
    assert found.verdict is not None
    assert [c.role for c in found.verdict.comparisons] == ["gate"] * 3 + ["output"] * 2
    assert found.quality is not None
    assert or_infinite(found.quality.sqnr_db["output"]) > 15


def test_an_operator_without_a_definition_leaves_the_comparisons_with_the_network(
    subject: Subject, quantize: Callable[..., Path], tmp_path: Path
) -> None:
    model = onnx.load(quantize("integers", dynamic=True))
    last = next(i for i, node in enumerate(model.graph.node) if node.op_type == "MatMulInteger")
    whole = model.graph.node[last]
    scale = next(
        t.name
        for t in model.graph.initializer
        if t.name.startswith(whole.input[1].rsplit("_", 1)[0]) and t.name.endswith("_scale")
    )
    source = next(node for node in model.graph.node if whole.input[0] in node.output).input[0]
    product = model.graph.node[last + 2]
    fused = helper.make_node(
        "DynamicQuantizeMatMul",
        [source, whole.input[1], scale, whole.input[3]],
        [product.output[0]],
        domain="com.microsoft",
    )
    del model.graph.node[last : last + 3]
    model.graph.node.insert(last, fused)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, tmp_path / "fused.onnx")
    (found,) = validate_artifacts(subject.model, [tmp_path / "fused.onnx"], threads=1)
    assert found.error is None
    assert found.verdict is not None
    assert [c.role for c in found.verdict.comparisons] == ["gate"] * 3 + ["output"]
    assert found.quality is not None
    assert or_infinite(found.quality.sqnr_db["output"]) > 15
    assert any("whether onnxruntime computes what it says can't be checked" in note for note in found.notes)
    (poor,) = validate_artifacts(
        subject.model, [tmp_path / "fused.onnx"], threads=1, requirement=QualityRequirement(sqnr=90.0)
    )
    assert isinstance(poor.error, DisagreementError)


def test_float_biases_that_onnx_runtime_rounds_are_no_fault(subject: Subject, quantize: Callable[..., Path]) -> None:
    options = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
    path = quantize(
        "float_biases", quant_format=QuantFormat.QDQ, activation_type=QuantType.QInt8, extra_options=options
    )
    (found,) = validate_artifacts(subject.model, [path], threads=1)
    assert found.error is None
    assert any("rounds its float biases to int32" in note for note in found.notes)


@pytest.mark.parametrize("factor", [1 / 255, *(pytest.param(f, marks=pytest.mark.full) for f in (255.0, 0.0))])
def test_a_file_calibrated_on_other_images_than_the_network_takes_is_refused(
    factor: float, subject: Subject, quantize: Callable[..., Path]
) -> None:
    """It answers by chance; its runtime and its graph are fine."""
    wrong = [np.abs(batch.arrays["input"]) * factor for batch in nominal_batches(subject.model.inputs, 4, 12)]
    path = quantize("wrong", quant_format=QuantFormat.QDQ, images=wrong)
    (found,) = validate_artifacts(subject.model, [path], threads=1)
    assert isinstance(found.error, DisagreementError)
    assert "and 3 are required" in found.error.message
    assert "normalized" in str(found.error.hint)
    (found,) = validate_artifacts(subject.model, [path], threads=1, requirement=QualityRequirement(sqnr=-20.0))
    assert found.error is None


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_convolution_of_whole_numbers_is_the_evaluators_own(per_channel: bool) -> None:
    random = np.random.default_rng(0)
    zero = random.integers(-3, 3, 8 if per_channel else ()).astype(np.int8)
    weights = {"w": random.integers(-127, 127, (8, 4, 3, 3)).astype(np.int8), "xz": np.uint8(7), "wz": zero}
    node = helper.make_node("ConvInteger", ["x", "w", "xz", "wz"], ["y"], pads=[1, 1, 1, 1], strides=[2, 2])
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["N", 4, 9, 9])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    images = random.integers(0, 255, (2, 4, 9, 9)).astype(np.uint8)
    ours, own = (
        ReferenceEvaluator(model, new_ops=operators).run(None, {"x": images})[0]  # type: ignore[index]
        for operators in (operators_for(model), [])
    )
    assert ours.dtype == own.dtype == np.int32
    assert np.array_equal(ours, own)
