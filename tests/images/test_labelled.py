"""Labelled images: which folder and which number is which class."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attn_export.exporter.artifacts import Input, Normalization
from attn_export.exporter.errors import InputError
from attn_export.exporter.images.labelled import BY_NAME, IN_ORDER, NUMBERS, Labelled, read_labelled
from attn_export.exporter.images.preprocessing import PictureOptions

INPUTS = [Input("input", (1, 3, 16, 16))]
OPTIONS = PictureOptions(Normalization((0.5,) * 3, (0.5,) * 3))
CLASSES = ("circle", "square", "triangle")


def folders(path: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        (path / name).mkdir(parents=True)
        Image.new("RGB", (16, 16), (i, i, i)).save(path / name / "1.png")
        Image.new("RGB", (16, 16), (i, i, i)).save(path / name / "2.jpg")
    return path


def read(path: Path, names: tuple[str, ...] = CLASSES, classes: int = 3) -> Labelled:
    return read_labelled(path, INPUTS, OPTIONS, classes, names)


def test_folders_are_matched_by_the_names_of_the_classes(tmp_path: Path) -> None:
    found = read(folders(tmp_path, "triangle", "circle"))
    assert [Path(name).parent.name for name in found.images.names] == ["circle"] * 2 + ["triangle"] * 2
    assert found.labels == (0, 0, 2, 2)
    assert (found.names, found.matched) == (CLASSES, BY_NAME)
    assert found.images.source.path == str(tmp_path)


def test_folders_of_other_names_are_in_the_order_of_imagefolder(tmp_path: Path) -> None:
    """Which is that of the letters: 10 comes before 2."""
    found = read(folders(tmp_path, "2", "10", "1"))
    assert (found.labels, found.matched) == ((0, 0, 1, 1, 2, 2), IN_ORDER)
    assert found.names == CLASSES
    assert read(tmp_path, names=()).names == ("1", "10", "2")


def test_an_empty_folder_is_a_class_too(tmp_path: Path) -> None:
    (folders(tmp_path, "a", "c") / "b").mkdir()
    (tmp_path / "notes.txt").write_text("")
    assert read(tmp_path, names=()).labels == (0, 0, 2, 2)


def test_an_archive_has_an_array_of_labels(tmp_path: Path) -> None:
    images = np.zeros((4, 3, 16, 16), np.float32)
    np.savez(tmp_path / "a.npz", images=images, labels=np.array([2, 0, 1, 2]))
    found = read(tmp_path / "a.npz")
    assert (found.labels, found.names, found.matched) == ((2, 0, 1, 2), CLASSES, NUMBERS)
    assert found.images.load([1, 2])["input"].shape == (2, 3, 16, 16)
    assert read(tmp_path / "a.npz", names=()).names == ("0", "1", "2")


def save(path: Path, **arrays: object) -> None:
    np.savez(path / "a.npz", **{name: np.asarray(array) for name, array in arrays.items()})  # type: ignore[arg-type]


IMAGES = np.zeros((2, 3, 16, 16), np.float32)


@pytest.mark.parametrize(
    ("write", "names", "says"),
    [
        (lambda path: folders(path, "circle", "sqare"), CLASSES, "called like no class: sqare"),
        (lambda path: folders(path, "crane"), ("crane", "crane", "dog"), "several classes are called like"),
        (lambda path: folders(path, "a", "b"), CLASSES, "has 2 folders, and the network knows 3 classes"),
        (lambda path: folders(path, "a", "b", "c", "d"), (), "has 4 folders, and the network knows 3 classes"),
        (lambda path: folders(path, "a", "b", "c"), ("x", "y"), "2 names are known for the 3 classes"),
        (lambda path: Image.new("RGB", (9, 9)).save(path / "a.png"), CLASSES, "has no folders of classes"),
        (lambda path: [(path / name).mkdir() for name in CLASSES], CLASSES, "holds no pictures"),
        (lambda path: save(path, images=IMAGES), CLASSES, "has no labels"),
        (lambda path: save(path, images=IMAGES, labels=[0, 3]), CLASSES, "labels from 0 to 3"),
        (lambda path: save(path, images=IMAGES, labels=[0, -1]), CLASSES, "labels from -1 to 0"),
        (lambda path: save(path, images=IMAGES, labels=[0.0, 1.0]), CLASSES, "labels of float64"),
        (lambda path: save(path, images=IMAGES, labels=[0]), CLASSES, r"labels of int64 \(1,\) for 2 images"),
    ],
)
def test_labels_that_are_not_the_networks_are_refused(
    write: object, names: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    write(tmp_path)  # type: ignore[operator]
    path = tmp_path / "a.npz" if (tmp_path / "a.npz").exists() else tmp_path
    with pytest.raises(InputError, match=says) as caught:
        read(path, names)
    assert caught.value.hint
