"""Artifacts that take pixels and return probabilities: --input-image, --mean, --std, --output, --labels."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from attn_export import cli
from attn_export.exporter.artifacts import Postprocessing
from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.workflows.served import ServedOptions, as_served
from tests.cli.conftest import CLASSES, Finished

Command = Callable[..., Finished]
Refused = Callable[..., Finished]

EXPORT = ("model.pt", "--onnx", "--no-bench")
SERVED = ("--input-image", "uint8:nhwc:bgr", "--output", "top=2")
PIXELS = np.random.default_rng(3).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)


def run(path: Path, array: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(None, {"input": array})
    return found


def probabilities(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def metadata(path: Path) -> dict[str, object]:
    entries = {entry.key.removeprefix("attn_export."): entry.value for entry in onnx.load(path).metadata_props}
    return {key: json.loads(value) for key, value in entries.items() if key not in ("source_sha256", "blocks")}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """A folder with the network's file, and in ``served`` that of pixels in BGR with the two best classes."""
    folder = tmp_path_factory.mktemp("exported")
    shutil.copy(checkpoint, folder / "model.pt")
    for out, options in ((folder, ()), (folder / "served", SERVED)):
        assert cli.run((str(folder / "model.pt"), *EXPORT[1:], "--quiet", "--out", str(out), *options)) == 0
    return folder


@pytest.fixture
def both(exported: Path, folder: Path) -> tuple[Path, Path]:
    shutil.copytree(exported, folder, dirs_exist_ok=True)
    return folder / "model.onnx", folder / "served" / "model.onnx"


def test_pixels_give_what_the_network_says_of_the_normalized_image(both: tuple[Path, Path]) -> None:
    plain, served = both
    normalized = (PIXELS[..., ::-1] / 255 - [0.4, 0.5, 0.6]) / [0.2, 0.3, 0.1]
    expected = probabilities(run(plain, normalized.transpose(0, 3, 1, 2).astype(np.float32))[0])
    scores, classes = run(served, PIXELS)
    order = np.argsort(-expected, axis=1)[:, :2]
    assert np.array_equal(classes, order)
    np.testing.assert_allclose(scores, np.take_along_axis(expected, order, 1), rtol=1e-4)


def test_the_file_says_what_it_takes_and_returns(both: tuple[Path, Path]) -> None:
    found = metadata(both[1])
    assert found["preprocessing"] == {
        "layout": "nhwc",
        "order": "bgr",
        "normalization": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.1]},
    }
    assert (found["postprocessing"], found["class_names"]) == ({"top": 2, "classes": 3}, list(CLASSES))
    assert "normalization" not in found, "it would be done twice"
    assert metadata(both[0])["normalization"] is not None


def test_only_the_mean_before_padding_is_left_of_the_preprocessing(both: tuple[Path, Path]) -> None:
    nodes = [node.op_type for node in onnx.load(both[1]).graph.node]
    first = nodes.index("Conv")
    assert nodes[:first] == ["Cast", "Transpose", "Sub"]
    assert len(nodes) == len(onnx.load(both[0]).graph.node) + 5, "with Softmax and TopK"


def test_it_is_validated_against_the_checkpoint_and_timed_beside_the_other(
    both: tuple[Path, Path], attn_export: Command
) -> None:
    plain, served = both
    normalized = (PIXELS[..., ::-1] / 255 - [0.4, 0.5, 0.6]) / [0.2, 0.3, 0.1]
    answers = run(plain, normalized.transpose(0, 3, 1, 2).astype(np.float32))[0].argmax(1)
    np.savez(served.with_name("labelled.npz"), images=PIXELS, labels=answers)
    command = ("validate", "model.pt", "served/model.onnx", "--eval", "served/labelled.npz", "--json")
    validated = json.loads(attn_export(*command).stdout)
    assert validated["artifacts"][0]["validation"]["agrees"]
    assert [(each["top1"], each["top5"], each["agreement"]) for each in validated["evaluation"]["results"]] == [
        (1, None, 1)
    ] * 2
    bench = ("bench", "model.pt", "model.onnx", "served/model.onnx", "--no-cost", "--seconds", "0.2", "--json")
    timed = attn_export(*bench)
    assert timed.returncode == 0, timed.stderr
    assert len(json.loads(timed.stdout)["latency"]["timings"]) == 3


def test_a_file_of_other_preprocessing_disagrees(both: tuple[Path, Path], attn_export: Command) -> None:
    served = onnx.load(both[1])
    (entry,) = [entry for entry in served.metadata_props if entry.key == "attn_export.preprocessing"]
    entry.value = entry.value.replace("bgr", "rgb")
    onnx.save(served, both[1])
    assert attn_export("validate", "model.pt", "served/model.onnx").returncode == 1


def test_labels_come_from_a_file(folder: Path) -> None:
    Path("names.json").write_text('{"1": ["n02", "dog"], "0": "cat", "2": "über cow"}')
    options = ServedOptions(postprocessing=Postprocessing(), labels=Path("names.json"))
    served = as_served(load("model.pt"), options)
    assert served.class_names == ("cat", "dog", "über cow")
    probability = served.module(torch.randn(2, 3, 16, 16))
    torch.testing.assert_close(probability.sum(1), torch.ones(2))


def test_the_network_itself_stays_as_it_was(folder: Path) -> None:
    model, image = load("model.pt"), torch.randn(1, 3, 16, 16)
    before = model.module(image)
    served = as_served(model, ServedOptions(("nhwc", "bgr"), postprocessing=Postprocessing(2)))
    assert torch.equal(model.module(image), before)
    assert list(dict(served.module.named_modules())) == list(dict(model.module.named_modules())), "paths stay"
    assert type(served.module) is type(model.module)


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--input-image", "float32", "can't be understood"),
        ("--input-image", "uint8:nhwc:nchw", "can't be understood"),
        ("--output", "top=0", "can't be understood"),
        ("--output", "argmax", "can't be understood"),
        ("--mean", "0.5,0.5,0.5", "--std is missing"),
    ],
)
def test_options_of_another_form_are_refused(option: str, value: str, says: str, refused: Refused) -> None:
    refused(2, *EXPORT, option, value, says=[says])


def test_what_does_not_fit_the_network_is_refused(refused: Refused, folder: Path) -> None:
    refused(3, *EXPORT, "--output", "top=4", says=["knows 3 classes", "top 4"])
    refused(2, *EXPORT, "--input-image", "uint8", "--mean", "0,0", "--std", "1", says=["takes 3 channels"])
    refused(2, *EXPORT, "--input-image", "uint8", "--mean", "0,0,0", "--std", "1,0,1", says=["above 0"])
    refused(2, *EXPORT, "--input-image", "uint8:nhwc", "--dynamic", "height", says=["height can't be dynamic"])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("two.txt", "a\nb\n", "names 2 classes"),
        ("gap.txt", "a\n\nb\n", "no name for class 1"),
        ("gap.json", '{"0": "a", "2": "b"}', "no name for class '1'"),
        ("other.json", "[1, 2, 3]", "can't be read"),
        ("bytes.txt", "\udcff", "can't be read"),
    ],
)
def test_bad_labels_are_refused(name: str, content: str, says: str, refused: Refused, folder: Path) -> None:
    Path(name).write_bytes(content.encode("utf-8", "surrogateescape"))
    refused(3, *EXPORT, "--labels", name, says=[name, says])


def test_missing_labels_are_refused(refused: Refused, folder: Path) -> None:
    refused(3, *EXPORT, "--labels", "none.txt", says=["none.txt", "can't be read"])
