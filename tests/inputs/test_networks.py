"""Networks that take and return more than one image: exported, cleaned, judged, built and timed."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from attn_export.exporter.artifacts import LoadedModel, Precision
from attn_export.exporter.bundle.read import read_bundle
from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.engine.profile import Sizes
from attn_export.exporter.engine.settings import EngineSettings
from attn_export.exporter.errors import DisagreementError, InputError
from attn_export.exporter.records.latency import Schedule
from attn_export.exporter.records.results import ExportResult
from attn_export.exporter.workflows.bench import bench
from attn_export.exporter.workflows.build import build_all
from attn_export.exporter.workflows.clean import clean_file
from attn_export.exporter.workflows.export import export
from attn_export.exporter.workflows.settings import BenchSettings, ExportSettings
from attn_export.exporter.workflows.validate import validate_artifacts
from attn_export.exporter.workflows.validate_bundle import validate_with_bundle
from tests.inputs.networks import CASES, network

SIZES = {
    "unet": Sizes(images=((32, 32), (32, 32), (48, 48))),
    "dataclass": Sizes(images=((32, 32), (32, 32), (48, 48))),
    "siamese": Sizes(images=((32, 32), (32, 32), (48, 48))),
    "words": Sizes(named=(("axis_1", (8, 12, 16)),)),
}
BLOCKS = {"unet": 5, "detector": 1, "dataclass": 1, "lstm": 1, "bytes": 1, "siamese": 2, "meta": 1, "words": 1}
SHORT = Schedule(seconds=0.0, fewest_rounds=2, inferences=1)
USUAL = ("words",)  # the others in `make test-all` alone
EVERY = [pytest.param(name, marks=[] if name in USUAL else [pytest.mark.full]) for name in CASES]


def loaded(name: str) -> LoadedModel:
    return from_module(network(name), CASES[name].inputs)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ExportResult]:
    """Each network as a file in float32 and in float16, with an engine and a bundle."""

    @cache
    def make(name: str) -> ExportResult:
        engine = EngineSettings(
            gpus=("sm86", "Jetson Orin Nano"), backend="tensorrt-rtx", sizes=SIZES.get(name, Sizes())
        )
        settings = ExportSettings(
            dynamic=CASES[name].dynamic,
            runtimes=("eager", "onnxruntime"),
            schedule=SHORT,
            precisions=(Precision.FP32, Precision.FP16),
            engine=engine,
            threads=1,
        )
        return export(network(name), inputs=CASES[name].inputs, out=tmp_path_factory.mktemp(name), settings=settings)

    return make


@pytest.mark.parametrize("name", EVERY)
def test_it_is_exported_proven_and_timed(name: str, exported: Callable[[str], ExportResult]) -> None:
    result = exported(name)
    (record, *_) = result.report.onnx_files
    assert all(verdict.agrees for verdict in result.verdicts)
    assert len(record.attention) == BLOCKS[name]
    assert [(taken.name, taken.dtype) for taken in record.inputs] == [
        (taken.name, taken.dtype) for taken in loaded(name).inputs
    ]
    assert {timing.runtime for timing in result.timings} == {"eager", "onnxruntime"}


@pytest.mark.parametrize("name", EVERY)
def test_its_file_agrees_and_one_with_a_broken_weight_does_not(
    name: str, exported: Callable[[str], ExportResult], tmp_path: Path
) -> None:
    model = onnx.load(exported(name).onnx)
    weight = [tensor for tensor in model.graph.initializer if tensor.data_type == 1 and len(tensor.dims) > 1][-1]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.001), weight.name))
    onnx.save(model, tmp_path / "broken.onnx")
    good, broken = validate_artifacts(loaded(name), [exported(name).onnx, tmp_path / "broken.onnx"], threads=1)
    assert good.error is None
    assert isinstance(broken.error, DisagreementError)


@pytest.mark.parametrize("name", EVERY)
def test_an_engine_and_a_bundle_take_all_inputs(name: str, exported: Callable[[str], ExportResult]) -> None:
    result = exported(name)
    names = [taken.name for taken in loaded(name).inputs]
    assert set(result.report.engines[0].profile) == set(names)
    bundle = read_bundle(result.bundles[0])
    assert list(bundle.golden.inputs) == names
    _, verdict, error = validate_with_bundle(bundle, result.onnx, threads=1)
    assert error is None
    assert verdict.agrees


@pytest.mark.parametrize("name", [pytest.param("siamese", marks=pytest.mark.full), "words"])
def test_a_file_alone_is_timed(name: str, exported: Callable[[str], ExportResult]) -> None:
    settings = BenchSettings(schedule=SHORT, cost=False, threads=1)
    found = bench(None, exported(name).onnx, inputs=loaded(name).inputs, settings=settings)
    assert [timing.artifact for timing in found.latency.timings] == ["model.onnx"]


@pytest.mark.full
def test_the_outputs_of_a_dataclass_are_called_like_its_fields(exported: Callable[[str], ExportResult]) -> None:
    names = exported("dataclass").report.onnx_files[0].outputs
    assert names == ("output_logits", "output_parts_0", "output_parts_1", "output_sure")


@pytest.mark.full
def test_inputs_in_another_order_and_of_other_names_are_found(
    exported: Callable[[str], ExportResult], tmp_path: Path
) -> None:
    model = onnx.load(exported("meta").onnx)
    swapped = list(model.graph.input)[::-1]
    del model.graph.input[:]
    model.graph.input.extend(swapped)
    onnx.save(model, tmp_path / "swapped.onnx")
    (found,) = validate_artifacts(loaded("meta"), tmp_path / "swapped.onnx", threads=1)
    assert found.error is None


def test_a_file_of_open_sizes_asks_for_those_of_each_input(exported: Callable[[str], ExportResult]) -> None:
    with pytest.raises(InputError, match="nothing says how large") as caught:
        bench(None, exported("words").onnx)
    assert "--input tokens=1x16 --input mask=1x16" in caught.value.hint


@pytest.mark.full
def test_axes_of_one_input_are_its_own(exported: Callable[[str], ExportResult]) -> None:
    inputs = {taken.name: taken for taken in exported("siamese").report.onnx_files[0].inputs}
    assert [axis.name for axis in inputs["left"].dynamic_axes] == ["batch", "height", "width"]
    assert [axis.name for axis in inputs["right"].dynamic_axes] == ["batch"]


@pytest.mark.full
def test_the_whole_range_of_bytes_is_seen(exported: Callable[[str], ExportResult]) -> None:
    golden = read_bundle(exported("bytes").bundles[0]).golden
    images = golden.groups[0].arrays["image"]
    assert (images.dtype, images.min(), images.max()) == ("uint8", 0, 255)


@pytest.mark.parametrize("name", [pytest.param("bytes", marks=pytest.mark.full), "words"])
def test_a_file_alone_is_cleaned_converted_and_built(
    name: str, exported: Callable[[str], ExportResult], tmp_path: Path
) -> None:
    cleaned = clean_file(exported(name).onnx, tmp_path / "clean.onnx", threads=1)
    assert cleaned.verdict is not None
    assert cleaned.verdict.agrees
    settings = EngineSettings(gpus=("sm86", "Jetson Orin Nano"), backend="tensorrt-rtx", sizes=SIZES.get(name, Sizes()))
    built = build_all(tmp_path / "clean.onnx", settings=settings, precisions=(Precision.FP16,), threads=1)
    assert built.engines
    bundle = read_bundle(built.bundles[0])
    assert set(bundle.golden.inputs.values()) == {taken.dtype for taken in loaded(name).inputs}
