"""Kernels that run in another type than the graph are found, named, and not written unless that is accepted."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from msgspec import structs

from attn_export.exporter.artifacts import Precision, Target
from attn_export.exporter.engine import record
from attn_export.exporter.engine.kernels import read_log
from attn_export.exporter.engine.log import Log
from attn_export.exporter.engine.precision_audit import NodeTypes, mixed_kernels
from attn_export.exporter.engine.settings import EngineSettings
from attn_export.exporter.errors import MixedPrecisionError
from attn_export.exporter.records.engine import Kernel, KernelReport, MixedKernel
from attn_export.exporter.system.quiet import quiet
from attn_export.exporter.workflows.export import export
from attn_export.exporter.workflows.settings import ExportSettings
from attn_export.models.registry import create
from tests.engine.building import build_file
from tests.engine.conftest import Engine
from tests.engine.graphs import all_half, conv, eight_bits, gated, half_inside, node, plain, saved, weight

SM86 = EngineSettings(gpus=("sm86",))
Planted = Callable[..., None]


def kernel(*nodes: str, reads: str = "FLOAT", writes: str = "FLOAT") -> Kernel:
    return Kernel("+".join(nodes), "kgen", nodes, tuple(reads.split()), tuple(writes.split()), (), None)


def both(*types: str) -> NodeTypes:
    return NodeTypes(frozenset(types), frozenset(types))


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Planted:
    """``planted("second")``: the log of the next build says that this node's kernel reads float32."""

    def plant(*names: str) -> None:
        def read(log: Log) -> KernelReport:
            report = read_log(log)
            changed = [structs.replace(k, reads=("FLOAT",)) if {*names} & {*k.nodes} else k for k in report.kernels]
            return structs.replace(report, kernels=tuple(changed))

        monkeypatch.setattr(record, "read_log", read)

    return plant


@pytest.mark.parametrize(
    ("name", "form"), [("cbam_resnet8", "clean"), ("cbam_resnet8", "raw"), ("se_resnet8", "legacy")]
)
def test_float32_networks_run_in_float32(
    network: Callable[..., Path], engine: Callable[..., Engine], name: str, form: str
) -> None:
    made = engine(network(name, form))
    assert made.report.types == ("FLOAT",)
    assert mixed_kernels(made.report, made.facts.types) == ()


@pytest.mark.parametrize("write", [plain, half_inside, all_half, gated])
def test_what_is_typed_by_hand_runs_as_it_is_typed(
    engine: Callable[..., Engine], tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    made = engine(write(tmp_path / "typed.onnx"))
    assert len(made.report.kernels) >= 4
    assert mixed_kernels(made.report, made.facts.types) == ()


def test_eight_bits_run_as_they_are_typed(engine: Callable[..., Engine], tmp_path: Path) -> None:
    made = engine(eight_bits(tmp_path / "f8.onnx"), "sm89")
    assert "FLOAT8E4M3FN" in made.report.types
    assert mixed_kernels(made.report, made.facts.types) == ()


def test_names_decide_nothing(engine: Callable[..., Engine], tmp_path: Path) -> None:
    for names in (("", "", ""), ("same", "same", "same"), ("a [1]", "b, c", "d]")):
        made = engine(plain(tmp_path / f"{len(names[0])}.onnx", names))
        assert mixed_kernels(made.report, made.facts.types) == ()


def test_a_chain_of_casts_is_looked_through(engine: Callable[..., Engine], tmp_path: Path) -> None:
    nodes = [
        conv("x", "a"),
        node("Cast", "a", "b", to=10),
        node("Cast", "b", "c", to=1),
        node("Cast", "c", "d", to=10),
        node("Sigmoid", "d", "e"),
        node("Cast", "e", "y", to=1),
    ]
    made = engine(saved(tmp_path / "casts.onnx", nodes, [weight("w", 8, 8, 3, 3)]))
    assert mixed_kernels(made.report, made.facts.types) == ()


def test_a_convolution_that_reads_another_type_is_named(engine: Callable[..., Engine], tmp_path: Path) -> None:
    made = engine(pure_half(tmp_path / "half.onnx"))
    wrong = [k for k in made.report.kernels if "relu_b" in k.nodes]
    assert len(wrong) == 1
    edited = structs.replace(
        made.report,
        kernels=tuple(structs.replace(k, reads=("FLOAT",)) if k in wrong else k for k in made.report.kernels),
    )
    (found,) = mixed_kernels(edited, made.facts.types)
    assert found.kernel == wrong[0].name
    assert found.nodes == wrong[0].nodes
    assert str(found) == "conv_a, relu_b runs in FLOAT, the graph says FLOAT16"


def test_a_change_of_layout_may_have_any_type_of_the_graph() -> None:
    types = {"a": both("FLOAT16", "INT64"), "b": both("FLOAT")}
    assert mixed_kernels(KernelReport((kernel(reads="FLOAT", writes="FLOAT16"),), ""), types) == ()
    (found,) = mixed_kernels(KernelReport((kernel(reads="INT8", writes="FLOAT16"),), ""), types)
    assert found.found == ("INT8",)


def test_a_graph_of_uint8_is_named_as_such() -> None:
    """NNCF quantizes to uint8 after a ReLU, which TensorRT-RTX runs in int8."""
    types = {"quantize": NodeTypes(frozenset({"FLOAT", "UINT8"}), frozenset({"UINT8"}))}
    (found,) = mixed_kernels(KernelReport((kernel("quantize", reads="FLOAT", writes="INT8"),), ""), types)
    assert str(found) == "quantize runs in INT8, the graph says FLOAT/UINT8"


def test_sizes_and_conditions_are_no_precision() -> None:
    types = {"a": both("FLOAT", "INT64", "BOOL")}
    assert mixed_kernels(KernelReport((kernel("a", reads="FLOAT INT32 BOOL", writes="FLOAT"),), ""), types) == ()


def test_a_float32_convolution_between_casts_that_runs_in_float16_is_found(
    engine: Callable[..., Engine], tmp_path: Path
) -> None:
    """Its inputs and outputs are float16 either way, because the Casts are part of its kernel: its weights tell."""
    types = {
        "to_fp32": NodeTypes(frozenset({"FLOAT16"}), frozenset({"FLOAT"})),
        "conv": both("FLOAT"),
        "to_fp16": NodeTypes(frozenset({"FLOAT"}), frozenset({"FLOAT16"})),
    }
    right = structs.replace(kernel("to_fp32", "conv", "to_fp16", reads="FLOAT16", writes="FLOAT16"), weights=("FLOAT",))
    wrong = structs.replace(right, nodes=("conv",), weights=("FLOAT16",))
    assert mixed_kernels(KernelReport((right,), ""), types) == ()
    (found,) = mixed_kernels(KernelReport((wrong,), ""), types)
    assert found.found == ("FLOAT16",)
    made = engine(half_inside(tmp_path / "half.onnx"))
    assert {"FLOAT16"} in [set(k.weights) for k in made.report.kernels]


def test_a_node_that_two_kernels_compute_may_be_cut_anywhere() -> None:
    """TensorRT pads a last layer with an odd number of outputs, casts, and cuts off what is too much."""
    types = {"cast": NodeTypes(frozenset({"FLOAT16"}), frozenset({"FLOAT"}))}
    halves = (kernel("cast", reads="FLOAT16", writes="FLOAT"), kernel("cast", reads="FLOAT", writes="FLOAT"))
    assert mixed_kernels(KernelReport(halves, ""), types) == ()


@pytest.mark.parametrize("classes", [1, *(pytest.param(n, marks=pytest.mark.full) for n in (3, 5, 10))])
def test_networks_in_float16_are_not_mixed(engine: Callable[..., Engine], tmp_path: Path, classes: int) -> None:
    """Found by using it: an odd number of classes, and pools whose Cast no kernel lists, were taken for mixtures."""
    path = tmp_path / "half.onnx"
    shape = (1, 3, 32, 32)
    settings = ExportSettings(runtimes=(), precisions=(Precision.FP16,), target=Target.TENSORRT)
    made = export(create("se_resnet8", num_classes=classes), shape, tmp_path, name="net", settings=settings)
    made.onnx.rename(path)
    built = engine(path)
    assert "FLOAT16" in built.report.types
    assert mixed_kernels(built.report, built.facts.types) == ()


def test_layer_normalization_computes_its_statistics_in_float32_by_definition(
    engine: Callable[..., Engine], tmp_path: Path
) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.LayerNorm([8, 6, 6])).half().eval()
    path = tmp_path / "normalized.onnx"
    with quiet():
        torch.onnx.export(module, (torch.zeros(1, 3, 8, 8).half(),), str(path), dynamo=False, opset_version=17)
    made = engine(path)
    assert mixed_kernels(made.report, made.facts.types) == ()


def test_a_report_without_kernels_claims_nothing() -> None:
    assert mixed_kernels(KernelReport((), ""), {}) == ()
    assert mixed_kernels(KernelReport((), ""), {"a": both("FLOAT")}) == ()


def test_many_nodes_are_reported_in_short() -> None:
    mixed = MixedKernel("k", ("a", "b", "c", "d", "e"), ("FLOAT",), ("FLOAT16",))
    assert str(mixed) == "a, b, c, … runs in FLOAT, the graph says FLOAT16"
    assert str(structs.replace(mixed, nodes=())).startswith("k runs in")


def test_a_mixture_is_an_error_and_nothing_is_written(
    rtx: object, tmp_path: Path, planted: Planted, left: Callable[[], set[str]]
) -> None:
    source = pure_half(tmp_path / "half.onnx")
    planted("relu_b")
    with pytest.raises(MixedPrecisionError, match="1 kernel computes in another type") as caught:
        build_file(source, tmp_path / "half.engine", SM86)
    assert "relu_b runs in FLOAT, the graph says FLOAT16" in caught.value.message
    assert caught.value.exit_code == 1
    assert "--allow-mixed" in caught.value.hint
    assert left() == {"half.onnx"}


def test_an_older_engine_stays_when_the_new_one_is_mixed(rtx: object, tmp_path: Path, planted: Planted) -> None:
    out = tmp_path / "half.engine"
    build_file(pure_half(tmp_path / "half.onnx"), out, SM86)
    before = out.read_bytes(), (tmp_path / "half.engine.json").read_bytes()
    planted("relu_b")
    with pytest.raises(MixedPrecisionError):
        build_file(tmp_path / "half.onnx", out, SM86)
    assert (out.read_bytes(), (tmp_path / "half.engine.json").read_bytes()) == before


def test_a_mixture_that_is_accepted_is_recorded(rtx: object, tmp_path: Path, planted: Planted) -> None:
    planted("relu_b")
    made = build_file(pure_half(tmp_path / "half.onnx"), tmp_path / "half.engine", replace(SM86, allow_mixed=True))
    (mixed,) = json.loads((tmp_path / "half.engine.json").read_text())["precision"]["mixed"]
    assert "relu_b" in mixed["nodes"]
    assert (mixed["found"], mixed["expected"]) == (["FLOAT"], ["FLOAT16"])
    assert made.path.exists()


def test_many_mixed_kernels_are_counted_and_some_are_named() -> None:
    mixed = tuple(MixedKernel(f"k{i}", (f"n{i}",), ("FLOAT",), ("FLOAT16",)) for i in range(9))
    error = record.mixed_error(mixed)
    assert error.message.startswith("9 kernels compute in another type")
    assert error.message.count("\n") == record.SHOWN_KERNELS + 1
    assert "…" in error.message


def pure_half(path: Path) -> Path:
    """float16 throughout; the convolutions in the middle stand beside no Cast."""
    nodes = [
        node("Cast", "x", "x16", to=10),
        node("Sigmoid", "x16", "s"),
        conv("s", "a", "w16"),
        node("Relu", "a", "b"),
        conv("b", "c", "v16"),
        node("Sigmoid", "c", "d"),
        node("Cast", "d", "y", to=1),
    ]
    return saved(path, nodes, [weight("w16", 8, 8, 3, 3, kind=10), weight("v16", 8, 8, 3, 3, kind=10)])


def test_a_quantized_layer_may_scale_in_float32_and_has_to_read_int8() -> None:
    half = NodeTypes(frozenset({"FLOAT16", "FLOAT"}), frozenset({"FLOAT16", "FLOAT"}), quantized=frozenset({"INT8"}))
    sums, scales = kernel("conv", reads="INT8", writes="FLOAT"), kernel("conv", reads="FLOAT", writes="FLOAT16")
    types = {"conv": half | NodeTypes(frozenset({"INT8"}))}
    assert mixed_kernels(KernelReport((sums, scales), ""), types) == ()
    (found,) = mixed_kernels(KernelReport((scales,), ""), types)
    assert (found.nodes, found.found, found.expected) == (("conv",), ("FLOAT",), ("INT8",))
