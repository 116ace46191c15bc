"""`attn-export validate model.pt model.onnx …`: what agrees, what doesn't, and what doesn't fit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from attn_export.exporter import checkpoint as checkpoints
from attn_export.models.registry import architecture, create
from tests.cli.conftest import CLASSES, INPUT_SHAPE, NETWORK, Finished

Command = Callable[..., Finished]


def edited(path: Path, change: Callable[[onnx.ModelProto], object], name: str = "other.onnx") -> str:
    """A changed copy beside a file; its name."""
    model = onnx.load(path)
    change(model)
    onnx.save(model, path.with_name(name))
    return name


def scale(model: onnx.ModelProto, weight: str, factor: float) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == weight)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), weight))


def without_metadata(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]


def rename(model: onnx.ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    for value in (*model.graph.input, *model.graph.output):
        if value.name == old:
            value.name = new


# What agrees.


def test_several_artifacts_are_judged_in_one_table(files: Path, attn_export: Command) -> None:
    done = attn_export("validate", "model.pt", "model.onnx", "model.fp16.onnx")
    assert done.returncode == 0, done.stderr
    assert "model.onnx" in done.stdout
    assert "model.fp16.onnx" in done.stdout
    assert done.stdout.count("agrees") == 2


def test_the_document_has_every_comparison(files: Path, attn_export: Command) -> None:
    document = json.loads(attn_export("validate", "model.pt", "model.onnx", "model.fp16.onnx", "--json").stdout)
    assert document["schema_version"] == 3
    assert document["agrees"] is True
    assert [a["precision"] for a in document["artifacts"]] == ["float32", "float16"]
    for artifact in document["artifacts"]:
        comparisons = artifact["validation"]["comparisons"]
        assert [c["role"] for c in comparisons] == ["gate"] * 6 + ["output"]
        assert all(set(c["ratios"]) >= {"natural", "noise", "zeros", "impulse"} for c in comparisons)
        assert artifact["error"] is None
        assert artifact["first_divergence"] is None


def test_nothing_is_written(files: Path, attn_export: Command, contents: Callable[[], dict[str, Any]]) -> None:
    before = contents()
    assert attn_export("validate", "model.pt", "model.onnx").returncode == 0
    other = edited(files / "model.onnx", lambda m: scale(m, "conv1.weight", 1.01))
    before[other] = (files / other).read_bytes()
    assert attn_export("validate", "model.pt", other).returncode == 1
    assert contents() == before


def test_the_second_time_the_reference_is_there(
    files: Path, attn_export: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTN_EXPORT_CACHE", str(tmp_path / "cache"))
    first, second = (json.loads(attn_export("validate", "model.pt", "model.onnx", "--json").stdout) for _ in range(2))
    told = attn_export("validate", "model.pt", "model.onnx").stderr
    assert "was computed before" in told
    assert first["artifacts"][0]["validation"] == second["artifacts"][0]["validation"]
    assert "was computed before" not in attn_export("validate", "model.pt", "model.onnx", "--no-cache").stderr
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_file_of_torchs_older_exporter_is_judged(files: Path, attn_export: Command, network: torch.nn.Module) -> None:
    example = torch.zeros(2, *INPUT_SHAPE)
    axes = {"x": {0: "n"}, "y": {0: "n"}}
    names: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": axes}
    torch.onnx.export(network, (example,), "theirs.onnx", dynamo=False, **names)
    done = attn_export("validate", "model.pt", "theirs.onnx", "--json")
    assert done.returncode == 0, done.stdout
    artifact = json.loads(done.stdout)["artifacts"][0]
    assert any("calls its input 'x'" in note for note in artifact["notes"])
    assert any("y for output" in note for note in artifact["notes"])
    assert len([c for c in artifact["validation"]["comparisons"] if c["role"] == "gate"]) == 6


def test_a_file_that_takes_float16_is_given_float16(files: Path, attn_export: Command) -> None:
    def narrow(model: onnx.ModelProto) -> None:
        rename(model, "input", "wide")
        value = next(v for v in model.graph.input if v.name == "wide")
        value.name = "input"
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
        model.graph.node.insert(0, helper.make_node("Cast", ["input"], ["wide"], to=TensorProto.FLOAT))

    name = edited(files / "model.fp16.onnx", narrow)
    done = attn_export("validate", "model.pt", name)
    assert done.returncode == 0, done.stderr
    assert "takes its input as float16: the images are converted" in done.stderr


def test_a_fixed_batch_is_judged_as_it_is(files: Path, attn_export: Command) -> None:
    assert attn_export("model.pt", "--onnx", "--no-bench", "--static", "--input", "2x3x16x16").returncode == 0
    done = attn_export("validate", "model.pt", "model.onnx", "model.fp16.onnx", "--json")
    batches = [a["validation"]["batches"] for a in json.loads(done.stdout)["artifacts"]]
    assert batches == [[[[2, 3, 16, 16]]], [[[n, 3, 16, 16]] for n in (1, 2, 5)]]


def test_the_same_weights_in_another_file_are_a_note(files: Path, attn_export: Command, network: Any) -> None:
    other = architecture(NETWORK, num_classes=len(CLASSES))
    checkpoints.save(files / "again.pt", network, other, input_shape=INPUT_SHAPE)
    done = attn_export("validate", "again.pt", "model.onnx")
    assert done.returncode == 0, done.stderr
    assert "was made of another file" in done.stderr
    assert "with the same weights" in done.stderr


def test_real_images_are_judged_too(files: Path, attn_export: Command, refused: Command) -> None:
    images = np.random.default_rng(0).standard_normal((5, *INPUT_SHAPE)).astype(np.float32)
    np.save(files / "images.npy", images)
    np.savez(files / "images.npz", images=images)
    for name in ("images.npy", "images.npz"):
        done = attn_export("validate", "model.pt", "model.onnx", "--images", name, "--json")
        assert done.returncode == 0, done.stdout
        assert "real" in json.loads(done.stdout)["artifacts"][0]["validation"]["comparisons"][0]["ratios"]
    np.save(files / "wrong.npy", images[:, :, :8])
    np.save(files / "nan.npy", images * np.nan)
    np.save(files / "whole.npy", (images * 10).astype(np.uint8))
    np.save(files / "objects.npy", np.array([{}]), allow_pickle=True)
    (files / "text.npy").write_text("no array")
    for name, says in {
        "wrong.npy": "(5, 3, 8, 16)",
        "nan.npy": "NaN",
        "whole.npy": "uint8",
        "objects.npy": "can't be read",
        "text.npy": "can't be read",
        "none.npy": "does not exist",
    }.items():
        refused(3, "validate", "model.pt", "model.onnx", "--images", name, "--quiet", says=[name, says])


# What disagrees.


def test_a_changed_weight_is_an_error_that_names_its_place(files: Path, attn_export: Command) -> None:
    other = edited(files / "model.onnx", lambda m: scale(m, "layer2.0.conv2.weight", 1.01))
    done = attn_export("validate", "model.pt", "model.onnx", other)
    assert done.returncode == 1
    assert "DISAGREES" in done.stdout
    assert done.stdout.count("agrees") == 1
    assert "first seen in the gate of layer2.0.attention.ChannelGate.sigmoid" in done.stderr
    assert "the error starts before layer2.0.attention" in done.stderr
    assert "the input of layer2.0 still agrees" in done.stderr


def test_a_disagreement_is_in_the_document(files: Path, attn_export: Command) -> None:
    other = edited(files / "model.onnx", lambda m: scale(m, "layer2.0.conv2.weight", 1.01))
    done = attn_export("validate", "model.pt", other, "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert document["agrees"] is False
    assert document["error"]["exit_code"] == 1
    assert document["artifacts"][0]["first_divergence"]["module_path"] == "layer2.0.attention"
    assert document["artifacts"][0]["first_divergence"]["before"] == "the input of layer2.0"


def test_an_artifact_of_another_checkpoint_is_reported_by_its_metadata(files: Path, attn_export: Command) -> None:
    other = create(NETWORK, num_classes=len(CLASSES), seed=8).requires_grad_(False)
    checkpoints.save(
        files / "other.pt", other, architecture(NETWORK, num_classes=len(CLASSES)), input_shape=INPUT_SHAPE
    )
    done = attn_export("validate", "other.pt", "model.onnx")
    assert done.returncode == 3
    assert "was made of another checkpoint" in done.stderr
    name = edited(files / "model.onnx", without_metadata)
    done = attn_export("validate", "other.pt", name)
    assert done.returncode == 1
    assert "Was it made of this checkpoint?" in done.stderr


def test_an_artifact_that_cannot_be_judged_keeps_no_other_from_it(files: Path, attn_export: Command) -> None:
    """One is cut off, one takes other images; a report shows the third."""
    (files / "cut.onnx").write_bytes((files / "model.onnx").read_bytes()[:1000])
    larger = edited(
        files / "model.onnx", lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 5)
    )
    named = ("cut.onnx", larger, "model.onnx")
    done = attn_export("validate", "model.pt", *named, "--json", "--report", "report.html")
    assert done.returncode == 3
    document = json.loads(done.stdout)
    assert [artifact["path"] for artifact in document["artifacts"]] == list(named)
    cut, other, good = document["artifacts"]
    assert (cut["sha256"], cut["validation"], other["validation"]) == (None, None, None)
    assert "cut.onnx" in cut["error"]["message"]
    assert "takes input" in other["error"]["message"]
    assert good["validation"]["agrees"]
    assert "1 more of 3 artifacts" in document["error"]["message"]
    assert "not judged" in attn_export("validate", "model.pt", *named).stdout
    assert "cut.onnx" not in (files / "report.html").read_text().split("</title>")[0]
    assert attn_export("validate", "model.pt", *named[:2]).returncode == 3


@pytest.mark.parametrize("opset", [9, 13])
def test_a_file_of_an_old_opset_is_judged(
    opset: int, files: Path, attn_export: Command, network: torch.nn.Module
) -> None:
    """`clean` starts at opset 11."""
    axes = {"x": {0: "n"}, "y": {0: "n"}}
    names: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": axes}
    torch.onnx.export(network, (torch.zeros(2, *INPUT_SHAPE),), "old.onnx", dynamo=False, opset_version=opset, **names)
    done = attn_export("validate", "model.pt", "old.onnx", "--json")
    assert done.returncode == 0, done.stderr
    comparisons = json.loads(done.stdout)["artifacts"][0]["validation"]["comparisons"]
    assert [c["role"] for c in comparisons] == ["gate"] * 6 + ["output"]


def test_a_file_of_at_most_four_images_is_found(files: Path, attn_export: Command) -> None:
    """Traced with a batch of 4; what stands in the file was opened afterwards."""

    def limited(model: onnx.ModelProto) -> None:
        next(node for node in model.graph.node if "output" in node.output).output[0] = "all"
        ends = {"from": [0], "to": [4]}
        model.graph.initializer.extend(numpy_helper.from_array(np.array(v), name) for name, v in ends.items())
        model.graph.node.append(helper.make_node("Slice", ["all", *ends], ["output"], name="limited"))

    done = attn_export("validate", "model.pt", edited(files / "model.onnx", limited))
    assert done.returncode == 1
    assert "first seen in output, which has another size" in done.stderr


def test_an_output_that_is_constant_is_reported(files: Path, attn_export: Command) -> None:
    other = edited(files / "model.onnx", lambda m: scale(m, "fc.weight", 0.0))
    done = attn_export("validate", "model.pt", other)
    assert done.returncode == 1
    assert "its output is the same for all images" in done.stderr


def test_what_is_no_number_and_what_is_of_another_size_is_reported_in_words(files: Path, attn_export: Command) -> None:
    other = edited(files / "model.onnx", lambda m: scale(m, "layer2.0.conv2.weight", np.nan))
    told = attn_export("validate", "model.pt", other).stderr
    assert "which isn't a number on" in told
    assert "the error starts before layer2.0.attention: not a number, baseline error" in told
    assert "inf" not in told
    assert "the same for all images" not in told

    def doubled(model: onnx.ModelProto) -> None:
        next(node for node in model.graph.node if "output" in node.output).output[0] = "one"
        model.graph.node.append(helper.make_node("Concat", ["one", "one"], ["output"], name="both", axis=0))

    done = attn_export("validate", "model.pt", edited(files / "model.onnx", doubled))
    assert done.returncode == 1
    assert "first seen in output, which has another size" in done.stderr


def test_an_artifact_that_draws_random_numbers_is_reported(files: Path, attn_export: Command) -> None:
    def noisy(model: onnx.ModelProto) -> None:
        last = next(node for node in model.graph.node if "output" in node.output)
        last.output[0] = "sure"
        model.graph.node.extend(
            [
                helper.make_node("RandomNormalLike", ["sure"], ["noise"], name="noise"),
                helper.make_node("Add", ["sure", "noise"], ["output"], name="sum"),
            ]
        )

    done = attn_export("validate", "model.pt", edited(files / "model.onnx", noisy))
    assert done.returncode == 1
    assert "its results differ from run to run" in done.stderr


def test_all_that_is_wrong_is_reported_at_once(files: Path, attn_export: Command) -> None:
    one = edited(files / "model.onnx", lambda m: scale(m, "layer2.0.conv2.weight", 1.01), "one.onnx")
    two = edited(files / "model.onnx", lambda m: scale(m, "conv1.weight", 1.01), "two.onnx")
    done = attn_export("validate", "model.pt", one, "model.onnx", two)
    assert done.returncode == 1
    assert "one.onnx doesn't compute" in done.stderr
    assert "two.onnx doesn't compute" in done.stderr
    assert "1 more of 3 artifacts" in done.stderr


def test_a_size_that_was_written_into_the_file_is_reported(files: Path, attn_export: Command) -> None:
    def baked(model: onnx.ModelProto) -> None:
        last = next(node for node in model.graph.node if "output" in node.output)
        last.output[0] = "any"
        model.graph.initializer.append(numpy_helper.from_array(np.array([1, 3], np.int64), "one"))
        model.graph.node.append(helper.make_node("Reshape", ["any", "one"], ["output"], name="baked"))

    done = attn_export("validate", "model.pt", edited(files / "model.onnx", baked))
    assert done.returncode == 5
    assert "can't run this artifact on (2, 3, 16, 16)" in done.stderr
    assert "not judged" in done.stdout
    assert "Traceback" not in done.stderr


# What doesn't fit.


def test_another_number_of_channels_or_classes_is_refused(files: Path, refused: Command) -> None:
    save = checkpoints.save
    grey = create(NETWORK, num_classes=len(CLASSES), in_channels=1)
    save(files / "grey.pt", grey, architecture(NETWORK, num_classes=3, in_channels=1), input_shape=(1, 16, 16))
    more = create(NETWORK, num_classes=5)
    save(files / "more.pt", more, architecture(NETWORK, num_classes=5), input_shape=INPUT_SHAPE)
    refused(3, "validate", "grey.pt", "model.onnx", "--quiet", says=["model.onnx takes input (", "(N, 1, 16, 16)"])
    refused(3, "validate", "more.pt", "model.onnx", "--quiet", says=["model.onnx returns output (", "output (N, 5)"])


def two_inputs(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["batch", 1]))


def whole_numbers(model: onnx.ModelProto) -> None:
    rename(model, "input", "wide")
    value = next(v for v in model.graph.input if v.name == "wide")
    value.name, value.type.tensor_type.elem_type = "input", TensorProto.UINT8
    model.graph.node.insert(0, helper.make_node("Cast", ["input"], ["wide"], to=TensorProto.FLOAT))


def two_outputs(model: onnx.ModelProto) -> None:
    """Which of the two is meant can't be told."""
    rename(model, "output", "logits")
    model.graph.node.append(helper.make_node("Softmax", ["logits"], ["probabilities"], name="softmax"))
    model.graph.output.append(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3]))


def instead(operator: str, kind: int, *, listed: bool = False, **attributes: Any) -> Callable[[onnx.ModelProto], None]:
    """What the network returns goes through one more operator."""

    def change(model: onnx.ModelProto) -> None:
        rename(model, "output", "logits")
        model.graph.node.append(helper.make_node(operator, ["logits"], ["output"], name="last", **attributes))
        del model.graph.output[:]
        made = helper.make_tensor_sequence_value_info if listed else helper.make_tensor_value_info
        model.graph.output.append(made("output", kind, ["batch", 3]))

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (two_inputs, ["takes 2 tensors", "input (", "mask ("]),
        (whole_numbers, ["as uint8", "float32"]),
        (two_outputs, ["returns logits (", "probabilities (", "it isn't clear which is which"]),
        (instead("Cast", TensorProto.INT64, to=TensorProto.INT64), ["output (batch, 3) as int64", "none of them fits"]),
        (instead("Cast", TensorProto.STRING, to=TensorProto.STRING), ["as string", "none of them fits"]),
        (instead("SequenceConstruct", TensorProto.FLOAT, listed=True), ["as a sequence", "none of them fits"]),
    ],
    ids=["inputs", "type", "outputs", "whole numbers", "strings", "sequence"],
)
def test_other_inputs_and_outputs_are_refused_in_words(
    change: Callable[[onnx.ModelProto], None], says: list[str], files: Path, refused: Command
) -> None:
    other = edited(files / "model.onnx", change)
    refused(3, "validate", "model.pt", other, "--quiet", says=["other.onnx", *says])


def test_files_that_are_none_are_refused(files: Path, refused: Command) -> None:
    (files / "empty.onnx").touch()
    (files / "text.onnx").write_text("no graph")
    (files / "short.onnx").write_bytes((files / "model.onnx").read_bytes()[:2000])
    (files / "a.engine").write_bytes(b"no engine")
    (files / "folder.onnx").mkdir()
    for name in ("none.onnx", "empty.onnx", "text.onnx", "short.onnx", "none.engine", "folder.onnx", "a.engine"):
        refused(3, "validate", "model.pt", name, "--quiet", says=[name])
    (files / "report.json").write_text("{}")
    refused(3, "validate", "model.pt", "report.json", "--quiet", says=["neither an ONNX file", ".engine"])
    refused(3, "validate", "model.pt", "model.pt", "--quiet", says=["looks like a checkpoint"])
    refused(3, "validate", "none.pt", "model.onnx", "--quiet", says=["none.pt"])


def test_a_swapped_order_is_reported(files: Path, refused: Command) -> None:
    refused(2, "validate", "model.onnx", "model.pt", says=["comes first"], hint="validate model.pt model.onnx")
    refused(2, "validate", "model.pt", "model.onnx", "model.onnx", "--quiet", says=["named twice"])


def test_a_network_that_is_no_baseline_is_refused(files: Path, refused: Command, network: torch.nn.Module) -> None:
    unsure = create(NETWORK, num_classes=3, seed=7)
    with torch.no_grad():
        unsure.get_parameter("fc.weight").zero_()
    checkpoints.save(files / "unsure.pt", unsure, architecture(NETWORK, num_classes=3), input_shape=INPUT_SHAPE)
    refused(3, "validate", "unsure.pt", "model.onnx", "--quiet", says=["returns the same for all images"])


def test_a_missing_runtime_is_reported(files: Path, attn_export: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> Any:
        raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")

    monkeypatch.setattr(onnxruntime, "InferenceSession", missing)
    done = attn_export("validate", "model.pt", "model.onnx")
    assert done.returncode == 5
    assert "onnxruntime is not installed" in done.stderr


def test_options_of_a_checkpoint_are_refused_with_a_bundle(files: Path, refused: Command) -> None:
    (files / "a.bundle.zip").write_bytes(b"")
    refused(2, "validate", "a.bundle.zip", "model.onnx", "--arch", "x", says=["--arch is for a checkpoint"])
    refused(2, "validate", "a.bundle.zip", "model.onnx", "model.fp16.onnx", says=["one artifact"])
