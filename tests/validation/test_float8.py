"""Files that round to float8: what they say is computed by onnx's reference evaluator, and told for how good it is."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from attn_export.exporter.errors import DisagreementError
from attn_export.exporter.network.batches import nominal_batches
from attn_export.exporter.records.verdict import QualityRequirement
from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime
from attn_export.exporter.validation.artifact import read_artifact
from attn_export.exporter.validation.matching import RUNS_OF_QUANTIZED
from attn_export.exporter.validation.quantized import runtime_conformance
from attn_export.exporter.workflows.validate import validate_artifacts
from tests.faults.editing import Edited
from tests.faults.planting import ONE_THREAD, Subject
from tests.numbers import or_infinite
from tests.validation.narrow_types import to_bfloat16, to_float8

TRAINED = ("se_digits", "cbam_digits")


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Subject]:
    return cache(lambda name: Subject(name, tmp_path_factory.mktemp(name)))


def images_of(made: Subject) -> list[np.ndarray]:
    return [batch.arrays["input"] for batch in nominal_batches(made.model.inputs, 4, RUNS_OF_QUANTIZED)]


def float8(made: Subject) -> Path:
    return to_float8(made.file.path, made.folder / f"{made.name}.fp8.onnx", images_of(made))


@pytest.mark.parametrize("name", TRAINED)
def test_a_good_file_agrees_and_the_record_says_what_computed_it(name: str, subject: Callable[[str], Subject]) -> None:
    made = subject(name)
    (found,) = validate_artifacts(
        made.model, [float8(made)], threads=1, requirement=QualityRequirement(sqnr=15.0, agreement=0.7)
    )
    assert found.error is None
    assert found.artifact is not None
    assert found.artifact.quantized_type == "float8e4m3fn"
    assert found.verdict is not None
    assert found.verdict.runtime == "onnx reference evaluator"
    assert found.quality is not None
    assert 15 < or_infinite(found.quality.sqnr_db["output"]) < 60, "its roundings are computed"


@pytest.mark.parametrize("name", TRAINED)
def test_onnx_runtime_is_no_judge_of_it(name: str, subject: Callable[[str], Subject]) -> None:
    """Its optimizer takes zero for float8's smallest and drops the ReLU; without it, what is said is computed."""
    made = subject(name)
    path, batches = float8(made), nominal_batches(made.model.inputs, 4, RUNS_OF_QUANTIZED)
    assert not runtime_conformance(OnnxRuntime(path, made.file.signature, ONE_THREAD), path, batches)[0].agrees

    class Unoptimized(OnnxRuntime):
        def _options(self) -> onnxruntime.SessionOptions:
            options = super()._options()
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            return options

    assert runtime_conformance(Unoptimized(path, made.file.signature, ONE_THREAD), path, batches)[0].agrees


def test_a_bad_file_breaks_its_promise(subject: Callable[[str], Subject], tmp_path: Path) -> None:
    made = subject("se_digits")
    edited = Edited(float8(made))
    scale = next(t.name for t in edited.graph.initializer if t.name == "layer2.0.conv2.weight/scale")
    edited.replace_tensor(scale, edited.tensor(scale) * np.float32(2))
    onnx.save(edited.model, tmp_path / "bad.onnx")
    (found,) = validate_artifacts(
        made.model, [tmp_path / "bad.onnx"], threads=1, requirement=QualityRequirement(sqnr=15.0)
    )
    assert isinstance(found.error, DisagreementError)
    assert "doesn't meet its requirement" in found.error.message


def test_float8_beside_bfloat16_is_computed_too(subject: Callable[[str], Subject]) -> None:
    """The layers that aren't in float8 round to bfloat16, and the reference in float64 doesn't."""
    made = subject("cbam_digits")
    edited = Edited(float8(made))
    last = next(node for node in edited.graph.node if "output" in node.output)
    edited.insert_before(last, "Cast", to=TensorProto.BFLOAT16)
    edited.insert_before(last, "Cast", to=TensorProto.FLOAT)
    path = made.folder / "both.onnx"
    onnx.save(edited.model, path)
    (found,) = validate_artifacts(made.model, [path], threads=1)
    assert found.error is None
    assert found.verdict is not None
    assert found.verdict.runtime == "onnx reference evaluator"
    assert or_infinite(found.verdict.worst.error) > 1e-5, "it is rounded to bfloat16"


def test_each_file_is_called_by_what_it_rounds_to(subject: Callable[[str], Subject]) -> None:
    made = subject("se_digits")
    assert read_artifact(float8(made)).quantized_type == "float8e4m3fn"
    assert read_artifact(made.file.path).quantized_type == ""
    assert read_artifact(to_bfloat16(made.half.path, made.folder / "b.onnx")).quantized_type == ""
