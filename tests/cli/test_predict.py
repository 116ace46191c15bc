"""`attn-export predict`: what artifacts answer on pictures."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image

from attn_export.exporter import predict
from attn_export.exporter.workflows.predict import PredictSettings, _fitting
from tests.cli.conftest import CLASSES, Finished

Command = Callable[..., Finished]


@pytest.fixture
def photos(folder: Path) -> Path:
    draw = np.random.default_rng(1)
    (folder / "photos").mkdir()
    for i in range(5):
        Image.fromarray(draw.integers(0, 255, (9, 9, 3), dtype=np.uint8)).resize((30, 20)).save(f"photos/{i}.png")
    return folder / "photos"


def negated(path: Path, name: str) -> str:
    """The file with the last layer's weights negated, which knows no names and no normalization."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name.startswith("fc."):
            tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))
    del model.metadata_props[:]
    onnx.save(model, path.with_name(name))
    return name


def best(document: dict[str, object], artifact: str) -> list[str]:
    return [image["answers"][artifact][0]["label"] for image in document["images"]]  # type: ignore[attr-defined]


def test_artifacts_answer_side_by_side(files: Path, photos: Path, attn_export: Command) -> None:
    done = attn_export(
        "predict", "--threads", "1", "model.pt", "model.onnx", "model.fp16.onnx", "photos/0.png", "--top", "2"
    )
    assert done.returncode == 0, done.stderr
    assert "photos/0.png" in done.stdout.splitlines()[0]
    assert "All artifacts agree in 1 image." in done.stdout
    assert "mean 0.4, 0.5, 0.6, std 0.2, 0.3, 0.1" in done.stderr
    document = json.loads(attn_export("predict", "--threads", "1", "model.pt", "model.onnx", "photos", "--json").stdout)
    assert [Path(image["image"]).stem for image in document["images"]] == list("01234")
    for image in document["images"]:
        theirs, ours = (image["answers"][name] for name in ("model.pt", "model.onnx"))
        assert {guess["label"] for guess in ours} == set(CLASSES)
        assert sum(guess["probability"] for guess in ours) == pytest.approx(1)
        assert [g["probability"] for g in ours] == pytest.approx([g["probability"] for g in theirs], abs=1e-5)
    assert document["runtimes"] == {"model.pt": "eager", "model.onnx": "onnxruntime"}


def test_what_differs_is_said_and_isn_t_an_error(files: Path, photos: Path, attn_export: Command) -> None:
    """A file without facts is given what the first artifact that knows them takes."""
    other = negated(files / "model.onnx", "negated.onnx")
    Path("names.txt").write_text("\n".join(CLASSES))
    done = attn_export("predict", "--threads", "1", other, "model.onnx", "photos", "--labels", "names.txt")
    assert done.returncode == 0, done.stderr
    assert "The artifacts differ in 5 of 5 images." in done.stdout
    document = json.loads(attn_export("predict", "--threads", "1", other, "model.onnx", "photos", "--json").stdout)
    assert document["sources"][other] == document["sources"]["model.onnx"]
    assert not any(image["agree"] for image in document["images"])
    assert set(best(document, other)) <= set(CLASSES)


def test_a_checkpoint_without_facts_takes_the_names_and_the_normalization_of_the_files(
    files: Path, photos: Path, attn_export: Command
) -> None:
    """Also those of a file that normalizes its pixels itself; else "1" and "square" would be two answers."""
    weights = torch.load("model.pt", weights_only=True)["state_dict"]
    torch.save(weights, "bare.pt")
    made = attn_export("model.pt", "--onnx", "--no-bench", "--input-image", "uint8", "--out", "served")
    assert made.returncode == 0, made.stderr
    ask = ("predict", "--threads", "1", "bare.pt", "--input", "1x3x16x16", "served/model.onnx", "photos", "--json")
    done = attn_export(*ask)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert all(image["agree"] for image in document["images"])
    assert set(best(document, "bare.pt")) <= set(CLASSES)
    assert document["sources"]["bare.pt"]["preprocessing"]["mean"] == [0.4, 0.5, 0.6]


def test_names_are_lent_only_where_they_fit() -> None:
    scores, classes = np.ones((1, 2), np.float32), np.array([[7, 1]])
    assert _fitting(("a", "b"), {"output": scores}) == ("a", "b")
    assert _fitting(("a", "b", "c"), {"output": scores}) == ()
    assert _fitting(("a", "b"), {"scores": scores, "classes": classes}) == ()


def test_pixels_in_probabilities_out_and_one_batch(files: Path, photos: Path, attn_export: Command) -> None:
    """What a file takes and returns is in its metadata."""
    served = ("--input-image", "uint8:nhwc:bgr", "--output", "top=2", "--out", "served", "--threads", "1")
    made = attn_export("model.pt", "--onnx", "--no-bench", "--static", "--input", "2x3x16x16", *served)
    assert made.returncode == 0, made.stderr
    done = attn_export("predict", "--threads", "1", "model.onnx", "served/model.onnx", "photos", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    first, second = document["artifacts"]
    assert best(document, first) == best(document, second)
    for image in document["images"]:
        pairs = zip(image["answers"][first], image["answers"][second], strict=False)
        assert all(abs(a["probability"] - b["probability"]) < 0.01 for a, b in pairs)
        assert len(image["answers"][second]) == 2
    assert document["sources"][second]["preprocessing"]["colour"] == "BGR"


def test_from_python(files: Path, photos: Path) -> None:
    found = predict("model.onnx", photos, settings=PredictSettings(threads=1))
    assert len(found.images) == 5
    array = np.zeros((2, 3, 16, 16), np.float32)
    assert [entry.image for entry in predict(["model.pt", "model.onnx"], array).images] == ["image 0", "image 1"]


def test_what_cannot_be_asked_is_named(files: Path, photos: Path, refused: Command) -> None:
    other = negated(files / "model.onnx", "negated.onnx")
    Path("names.txt").write_text("circle\nsquare\n")
    Path("notes.txt").write_text("")
    Path("x.engine").write_bytes(b"")
    ask = ("predict", "--quiet", "--threads", "1")
    refused(2, *ask, "model.onnx", says=["no image was named"])
    refused(2, *ask, "photos", says=["no artifact was named"])
    refused(2, *ask, other, "photos", says=["nothing says how the network's images are normalized"], hint="--mean")
    refused(3, *ask, "model.onnx", "notes.txt", "photos", says=["notes.txt is no picture"])
    refused(3, *ask, "model.onnx", "photos", "--labels", "names.txt", says=["knows 3 classes, and 2 have names"])
    os.mkfifo("pipe.txt")
    refused(3, *ask, "model.onnx", "photos", "--labels", "pipe.txt", says=["pipe.txt can't be read as names"])
    refused(3, *ask, "x.engine", "photos", says=["x.engine"])
    refused(3, *ask, "none.onnx", "photos", says=["none.onnx"])
    model = onnx.load("model.onnx")
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info(model.graph.node[0].output[0], 1, None))
    onnx.save(model, "map.onnx")
    refused(3, *ask, "map.onnx", "photos", says=["map.onnx returns", "expected are scores (N, classes)"])
