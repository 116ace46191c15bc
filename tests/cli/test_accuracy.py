"""Labelled images on the command line: `--eval` and what is required on them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from PIL import Image

from attn_export.exporter import validate
from tests.cli.conftest import CLASSES, INPUT_SHAPE, Finished

Command = Callable[..., Finished]


@pytest.fixture
def labelled(folder: Path) -> Path:
    """Six pictures of each class."""
    draw = np.random.default_rng(0)
    for name in CLASSES:
        (folder / "labelled" / name).mkdir(parents=True)
        for i in range(6):
            pixels = draw.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((20, 20)).save(folder / "labelled" / name / f"{i}.png")
    return folder / "labelled"


def negated(path: Path, name: str) -> str:
    """The file with the last layer's weights negated: every answer is another."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name.startswith("fc."):
            tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))
    onnx.save(model, path.with_name(name))
    return name


def limited(path: Path, name: str) -> str:
    """The file with the answers to the first four images only."""
    model = onnx.load(path)
    next(node for node in model.graph.node if "output" in node.output).output[0] = "all"
    for end, value in (("from", 0), ("to", 4)):
        model.graph.initializer.append(numpy_helper.from_array(np.array([value]), end))
    model.graph.node.append(helper.make_node("Slice", ["all", "from", "to"], ["output"], name="limited"))
    onnx.save(model, path.with_name(name))
    return name


def test_artifacts_are_evaluated_side_by_side(files: Path, labelled: Path, attn_export: Command) -> None:
    other = negated(files / "model.onnx", "negated.onnx")
    artifacts = ("model.onnx", "model.fp16.onnx", other, limited(files / "model.onnx", "limited.onnx"))
    command = ("validate", "model.pt", *artifacts, "--eval", "labelled", "--threads", "1")
    done = attn_export(*command, "--report", "r.html", "--report", "r.md", "--json")
    assert done.returncode == 1  # it doesn't compute what the network computes
    document = json.loads(done.stdout)
    evaluation = document["evaluation"]
    assert evaluation["source"]["images"] == 18
    assert (evaluation["classes"], evaluation["matched"]) == (3, "by their names")
    own, same, half, moved = evaluation["results"]
    assert [entry["artifact"] for entry in evaluation["results"]] == ["PyTorch", *artifacts[:3]]
    assert same["top1"] == own["top1"]
    assert same["agreement"] == half["agreement"] == 1
    assert same["sqnr_db"] > 100
    assert 40 < half["sqnr_db"] < 90
    assert moved["agreement"] == 0
    assert (evaluation["flipped"], len(evaluation["flips"])) == (18, 12)
    assert evaluation["not_evaluated"] == {"limited.onnx": "it returns (4, 3) for 16 images of 3 classes"}
    flip = evaluation["flips"][0]
    assert flip["answers"]["negated.onnx"] != flip["answers"]["PyTorch"] == flip["answers"]["model.onnx"]
    assert Path(flip["image"]).parts[:2] == ("labelled", flip["label"])
    assert flip["picture"]["shape"] == [3, 16, 16]
    page, comment = Path("r.html").read_text(), Path("r.md").read_text()
    assert page.count(f'alt="{flip["image"]}"') == 1
    assert "### Accuracy" in comment
    assert "Answered otherwise than in PyTorch" in comment or "answered otherwise" in page
    error = document["error"]["message"]
    assert "top-1" not in error


def test_what_is_required_is_required_of_every_artifact(files: Path, labelled: Path, attn_export: Command) -> None:
    command = (
        "validate",
        "model.pt",
        "model.onnx",
        "model.fp16.onnx",
        "--threads",
        "1",
        "--eval",
        "labelled",
        "--require",
    )
    assert attn_export(*command, "agreement=100%,sqnr=40,top1=0").returncode == 0
    done = attn_export(*command, "top1=0.99")
    assert done.returncode == 1
    assert "model.onnx has top-1 of" in done.stderr
    assert "over 18 labelled images; top1=99% is required" in done.stderr
    assert "PyTorch itself has a top-1 of" in done.stderr
    document = json.loads(attn_export(*command, "sqnr=100", "--json").stdout)
    assert [bool(entry["missed"]) for entry in document["evaluation"]["results"]] == [False, False, True]
    assert document["error"]["exit_code"] == 1


def test_an_export_is_evaluated_and_kept(folder: Path, labelled: Path, attn_export: Command) -> None:
    """Like a broken budget: the files are proven."""
    command = ("model.pt", "--onnx", "--no-bench", "--threads", "1", "--eval", "labelled", "--require", "top1=99%")
    done = attn_export(*command)
    assert done.returncode == 1
    assert "Accuracy on 18 labelled images" in done.stdout
    assert "missed: top-1 of" in done.stdout
    assert (folder / "model.onnx").exists()
    record = json.loads((folder / "model.report.json").read_text())
    assert record["evaluation"]["requirement"]["top1"] == 0.99


@pytest.mark.full  # what is filled up is in test_predict.py too
def test_arrays_have_labels_and_a_file_of_one_batch_gets_full_ones(files: Path, attn_export: Command) -> None:
    images = np.random.default_rng(0).standard_normal((7, *INPUT_SHAPE)).astype(np.float32)
    np.savez("eval.npz", images=images, labels=np.arange(7) % 3)
    assert attn_export("model.pt", "--onnx", "--no-bench", "--static", "--input", "2x3x16x16").returncode == 0
    done = attn_export(
        "validate", "model.pt", "model.onnx", "model.fp16.onnx", "--threads", "1", "--eval", "eval.npz", "--json"
    )
    assert done.returncode == 0, done.stderr
    evaluation = json.loads(done.stdout)["evaluation"]
    assert [entry["agreement"] for entry in evaluation["results"]] == [1, 1, 1]
    assert evaluation["matched"] == "as numbers"


def test_from_python(files: Path, labelled: Path) -> None:
    (found,) = validate("model.pt", "model.onnx", images=labelled, threads=1)
    assert found.verdict is not None
    assert any("real" in comparison.ratios for comparison in found.verdict.comparisons)


def test_labels_that_do_not_fit_are_refused(files: Path, labelled: Path, refused: Command) -> None:
    command = ("validate", "model.pt", "model.onnx", "--quiet", "--threads", "1")
    refused(2, *command, "--require", "top1=1", says=["--require is for artifacts that round"], hint="--eval")
    refused(2, "model.pt", "--onnx", "--require", "top1=1", says=["needs labelled images"], hint="--eval DIR")
    Path("names.txt").write_text("circle\nsquare\noval\n")
    refused(3, *command, "--eval", "labelled", "--labels", "names.txt", says=["called like no class: triangle"])
    Path("names.txt").write_text("circle\nsquare\n")
    refused(3, *command, "--eval", "labelled", "--labels", "names.txt", says=["2 names are known for the 3 classes"])
    refused(3, *command, "--eval", "nowhere", says=["nowhere"])
    refused(2, "quantize", "model.onnx", "--calibration", "labelled", "--require", "top1=1", says=["labelled images"])


def test_a_checkpoint_without_names_takes_those_of_the_files(files: Path, labelled: Path, attn_export: Command) -> None:
    """The normalization too: both are in every exported file."""
    torch.save(torch.load("model.pt", weights_only=True)["state_dict"], "bare.pt")
    done = attn_export("validate", "bare.pt", "model.onnx", "--eval", "labelled", "--threads", "1", "--json")
    assert done.returncode == 0, done.stderr
    evaluation = json.loads(done.stdout)["evaluation"]
    assert evaluation["matched"] == "by their names"
    assert evaluation["source"]["preprocessing"]["mean"] == [0.4, 0.5, 0.6]
