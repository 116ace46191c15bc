"""Folders of pictures and arrays as images: `--images` and `--calibration`."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from tests.cli.conftest import INPUT_SHAPE, Finished

Command = Callable[..., Finished]


@pytest.fixture
def photos(folder: Path) -> Path:
    """Twelve pictures of several sizes, and a text."""
    draw = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for i in range(12):
        small = draw.integers(0, 255, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(small).resize((20 + i, 30)).save(folder / "photos" / f"{i:02}.png")
    (folder / "photos" / "notes.txt").write_text("")
    return folder / "photos"


def test_a_folder_of_pictures_is_judged_with_the_checkpoints_normalization(
    files: Path, photos: Path, attn_export: Command
) -> None:
    done = attn_export("validate", "model.pt", "model.onnx", "--images", "photos", "--threads", "1", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert "real" in document["artifacts"][0]["validation"]["comparisons"][0]["ratios"]
    assert document["images"] == {
        "path": "photos",
        "images": 12,
        "left_out": ["notes.txt"],
        "preprocessing": {
            "colour": "RGB",
            "resize": [16],
            "crop": [16, 16],
            "interpolation": "bilinear",
            "mean": [0.4, 0.5, 0.6],
            "std": [0.2, 0.3, 0.1],
        },
        "notes": [],
    }
    assert "photos: RGB, resized to shorter side 16 (bilinear), centre crop 16x16, mean 0.4, 0.5, 0.6" in done.stderr
    assert "it is no picture: notes.txt" in done.stderr


def test_an_export_takes_pictures_and_says_what_it_did_to_them(
    folder: Path, photos: Path, attn_export: Command
) -> None:
    named = ["--images", "photos/00.png", "--images", "photos/03.png", "--mean", "0.5", "--std", "0.25"]
    done = attn_export(
        "model.pt", "--onnx", "--no-bench", "--threads", "1", *named, "--resize", "20", "--interpolation", "bicubic"
    )
    assert done.returncode == 0, done.stderr
    source = json.loads((folder / "model.report.json").read_text())["images"]
    assert source["images"] == 2
    assert source["preprocessing"] == {
        "colour": "RGB",
        "resize": [20],
        "crop": [16, 16],
        "interpolation": "bicubic",
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
    }


def test_an_onnx_file_knows_the_normalization_of_its_network(files: Path, photos: Path, attn_export: Command) -> None:
    done = attn_export("clean", "model.onnx", "-o", "clean.onnx", "--images", "photos")
    assert done.returncode == 0, done.stderr
    assert "mean 0.4, 0.5, 0.6, std 0.2, 0.3, 0.1" in done.stderr
    done = attn_export(
        "quantize", "model.onnx", "--calibration", str(photos), "--ranges", "minmax", "--threads", "1", "--json"
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    (kept,) = (p.value for p in onnx.load("model.int8.onnx").metadata_props if p.key == "attn_export.quantization")
    assert record["source"]["path"] == str(photos)
    assert json.loads(kept)["source"]["path"] == "photos", "the file holds nobody's folders"
    assert record["images"] == record["source"]["images"] == 12
    assert record["source"]["preprocessing"]["mean"] == [0.4, 0.5, 0.6]


def test_a_file_that_knows_none_is_told(files: Path, photos: Path, attn_export: Command, refused: Command) -> None:
    model = onnx.load("model.onnx")
    del model.metadata_props[:]
    onnx.save(model, "theirs.onnx")
    quantize = ("quantize", "theirs.onnx", "--calibration", "photos", "--ranges", "minmax", "--threads", "1")
    refused(2, *quantize, says=["nothing says how"], hint="--mean 0.485,0.456,0.406 --std")
    done = attn_export(*quantize, "--mean", "0.4,0.5,0.6", "--std", "0.2,0.3,0.1", "--json")
    assert json.loads(done.stdout)["source"]["preprocessing"]["std"] == [0.2, 0.3, 0.1]
    model.metadata_props.add(key="attn_export.normalization", value='{"mean": [0], "std": [-1]}')
    onnx.save(model, "theirs.onnx")
    refused(2, *quantize, says=["nothing says how"])


def test_images_that_were_not_normalized_are_warned_of(files: Path, attn_export: Command) -> None:
    pixels = np.random.default_rng(0).uniform(0, 255, (12, *INPUT_SHAPE)).astype(np.float32)
    np.save("raw.npy", pixels)
    done = attn_export("quantize", "model.onnx", "--calibration", "raw.npy", "--ranges", "minmax", "--threads", "1")
    assert "raw.npy: its values go from" in done.stderr
    assert "lie between -6 and 4: were they normalized?" in done.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--images", "photos", "--mean", "0.5"], "--std is missing"),
        (["--images", "photos", "--mean", "a", "--std", "1"], "--mean a is no list of numbers"),
        (["--images", "photos", "--mean", "123.7", "--std", "58"], "for pixels of 0 to 255"),
        (["--images", "photos", "--mean", "0", "--std", "0"], "a deviation is above 0"),
        (["--images", "photos", "--mean", "0,0", "--std", "1"], "2 and 3 numbers"),
        (["--images", "photos", "--resize", "12"], "--resize 12 is smaller"),
        (["--images", "photos", "--resize", "big"], "--resize big is no size"),
        (["--images", "photos", "--interpolation", "nearest"], "--interpolation nearest is unknown"),
        (["--resize", "32"], "--resize is for pictures, and none are given"),
        (["--images", "a.npy", "--images", "b.npy"], "a.npy is one of several"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    options: list[str], says: str, files: Path, photos: Path, refused: Command
) -> None:
    refused(2, "validate", "model.pt", "model.onnx", "--quiet", *options, says=[says])


def test_pictures_that_cannot_be_read_are_named(files: Path, photos: Path, refused: Command) -> None:
    (photos / "05.png").write_text("no picture")
    command = ("model.pt", "--onnx", "--no-bench", "--quiet", "--out", "out", "--images")
    refused(3, *command, "photos", says=["05.png", "no picture"])
    refused(3, *command, "nowhere", says=["nowhere does not exist"])
    np.savez("whole.npz", np.zeros((2, *INPUT_SHAPE), np.float32))
    whole = Path("whole.npz").read_bytes()
    Path("cut.npz").write_bytes(whole[:3000])
    Path("bent.npz").write_bytes(whole[:1500] + b"\xff" + whole[1501:])
    Path("text.npz").write_bytes(b"PK\3\4x")
    for name in ("cut.npz", "bent.npz", "text.npz"):
        refused(3, *command, name, says=[name, "can't be read"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_named(files: Path, photos: Path, refused: Command) -> None:
    photos.chmod(0)
    refused(2, "quantize", "model.onnx", "--calibration", "photos", says=["'photos' is not readable"])
    photos.chmod(0o700)
