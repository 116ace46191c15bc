"""Files in bfloat16, which ONNX Runtime doesn't run on a CPU, are judged in onnx's reference evaluator."""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from attn_export.exporter.artifacts import OnnxFile, Precision
from attn_export.exporter.graph.gates import gates_of
from attn_export.exporter.graph.read import read
from attn_export.exporter.network.axes import opened
from attn_export.exporter.network.batches import batches
from attn_export.exporter.records.policies import POLICIES
from attn_export.exporter.validation.artifact import read_artifact
from attn_export.exporter.validation.compute_reference import compute_reference
from attn_export.exporter.validation.first_divergence import find_first_divergence
from attn_export.exporter.validation.reference import Reference
from attn_export.exporter.validation.validate import validate
from attn_export.exporter.workflows.validate import validate_artifacts
from tests.faults.catalogue import FAULTS, PLACES
from tests.faults.editing import Edited
from tests.faults.planting import ONE_THREAD, Subject
from tests.numbers import or_infinite
from tests.validation.narrow_types import to_bfloat16

TRAINED = ("se_digits", "cbam_digits")
# What changes wiring, and not only the last digits.
PLANTED = (
    "gate always open",
    "average and maximum swapped",
    "its pool takes the maximum",
    "second MLP branch dropped",
    "batch reversed",
    "NaN in one weight",
    "shortcut not added",
)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Subject]:
    return cache(lambda name: Subject(name, tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="module")
def reference(subject: Callable[[str], Subject]) -> Callable[[str], Reference]:
    """What a network computes, with a baseline of bfloat16."""

    def make(name: str) -> Reference:
        model = subject(name).model
        return compute_reference(model, batches(opened(model.inputs)), precisions=(Precision.BF16,))

    return cache(make)


def bfloat16(made: Subject, opset: int = 22) -> OnnxFile:
    path = to_bfloat16(made.half.path, made.folder / f"{made.name}.{opset}.bf16.onnx", opset)
    return replace(made.half, path=path, precision=Precision.BF16, gates=gates_of(read(path)))


@pytest.mark.parametrize("name", [*TRAINED, pytest.param("se_mobilenet_v3_small", marks=pytest.mark.full)])
def test_a_good_file_agrees(
    name: str, subject: Callable[[str], Subject], reference: Callable[[str], Reference]
) -> None:
    made = subject(name)
    file = bfloat16(made)
    with pytest.raises(Exception, match="Conv"):
        onnxruntime.InferenceSession(str(file.path), providers=["CPUExecutionProvider"])
    verdict = validate(file, reference(name), ONE_THREAD)
    assert verdict.agrees
    assert verdict.runtime == "onnx reference evaluator"
    assert verdict.gates_missed == ""
    assert or_infinite(verdict.worst.ratio) < 0.5 * POLICIES[Precision.BF16].limit
    assert or_infinite(verdict.worst.error) > 1e-3, "it is judged in bfloat16, and not in float32"
    assert find_first_divergence(file, made.model, reference(name), ONE_THREAD) is None


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        pytest.param(fault, name, id=f"{fault.name}-{name}")
        for fault in FAULTS
        for name in TRAINED
        if fault.name in PLANTED and name in fault.networks
    ],
)
def test_a_fault_of_wiring_is_caught(
    fault: object, name: str, subject: Callable[[str], Subject], reference: Callable[[str], Reference]
) -> None:
    made, place = subject(name), PLACES[name]
    half = made.faulty(lambda edited: fault.plant(edited, place), made.half)  # type: ignore[attr-defined]
    path = to_bfloat16(half.path, made.folder / "faulty.bf16.onnx")
    file = replace(half, path=path, precision=Precision.BF16, gates=gates_of(read(path)))
    assert not validate(file, reference(name), ONE_THREAD).agrees


def test_an_opset_without_such_convolutions_is_judged_as_tensorrt_reads_it(
    subject: Callable[[str], Subject], reference: Callable[[str], Reference]
) -> None:
    made = subject("cbam_digits")
    new, old = (validate(bfloat16(made, opset), reference(made.name), ONE_THREAD) for opset in (22, 20))
    assert old.agrees
    assert [c.error for c in old.comparisons] == [c.error for c in new.comparisons]


def test_torchs_own_bfloat16_file_is_judged_without_a_word_of_where_it_came_from(
    subject: Callable[[str], Subject], tmp_path: Path
) -> None:
    made = subject("cbam_digits")
    narrow = copy.deepcopy(made.model.module).eval().bfloat16()
    axes = {"x": {0: "n"}, "y": {0: "n"}}
    example = torch.zeros(2, *made.model.inputs[0].shape[1:], dtype=torch.bfloat16)
    path = tmp_path / "theirs.onnx"
    names = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": axes}
    torch.onnx.export(narrow, (example,), str(path), dynamo=False, opset_version=20, **names)  # type: ignore[arg-type]
    artifact = read_artifact(path)
    assert (artifact.precision, artifact.inputs[0].dtype) == (Precision.BF16, "bfloat16")
    (found,) = validate_artifacts(made.model, [path], threads=1)
    assert found.error is None
    assert found.verdict is not None
    assert found.verdict.runtime == "onnx reference evaluator"
    assert any("takes its input as bfloat16: the images are converted" in note for note in found.notes)
    assert len([c for c in found.verdict.comparisons if c.role == "gate"]) == 6


def test_one_layer_in_bfloat16_is_enough_to_be_judged_as_such(
    subject: Callable[[str], Subject], tmp_path: Path
) -> None:
    made = subject("se_digits")
    edited = Edited(made.file.path)
    last = next(node for node in edited.graph.node if "output" in node.output)
    edited.insert_before(last, "Cast", to=TensorProto.BFLOAT16)
    edited.insert_before(last, "Cast", to=TensorProto.FLOAT)
    onnx.save(edited.model, tmp_path / "mixed.onnx")
    assert read_artifact(tmp_path / "mixed.onnx").precision is Precision.BF16
    assert read_artifact(made.file.path).precision is Precision.FP32
    assert read_artifact(made.half.path).precision is Precision.FP16


def test_a_disagreement_names_the_block_in_which_it_starts(subject: Callable[[str], Subject], tmp_path: Path) -> None:
    made = subject("se_digits")
    path = bfloat16(made).path
    edited = Edited(path)
    weight = next(t for t in edited.graph.initializer if t.name == "layer2.0.conv2.weight")
    weight.CopyFrom(
        numpy_helper.from_array((numpy_helper.to_array(weight) * 2).astype(weight_type(weight)), weight.name)
    )
    onnx.save(edited.model, tmp_path / "faulty.onnx")
    (found,) = validate_artifacts(made.model, [tmp_path / "faulty.onnx"], threads=1)
    assert found.error is not None
    assert "PyTorch's own bfloat16" in found.error.message
    assert found.first_divergence is not None
    assert found.first_divergence.module_path.startswith("layer2.0")


def weight_type(tensor: TensorProto) -> np.dtype:
    return helper.tensor_dtype_to_np_dtype(tensor.data_type)
