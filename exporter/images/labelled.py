"""Labelled images: a folder for each class, or an array of labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec import structs

from attn_export.exporter.artifacts import Input
from attn_export.exporter.errors import InputError
from attn_export.exporter.images import arrays
from attn_export.exporter.images.folders import check_there, folders_in
from attn_export.exporter.images.preprocessing import PictureOptions, preprocessing_for
from attn_export.exporter.images.read import ImageSet, of_arrays, of_pictures
from attn_export.exporter.records.arrays import Array

LABELS = "labels"
BY_NAME, IN_ORDER, NUMBERS = "by their names", "in the order of the sorted folders", "as numbers"
MOST_NAMED = 5


@dataclass(frozen=True)
class Labelled:
    """Images and the numbers of their classes.

    Attributes:
        names: of all classes that the network knows, in the order of its scores.
        matched: how the labels became numbers.
    """

    images: ImageSet
    labels: tuple[int, ...]
    names: tuple[str, ...]
    matched: str


LabelledGiven = Path | str | Mapping[str, Array]


def read_labelled(
    given: LabelledGiven, inputs: Sequence[Input], options: PictureOptions, classes: int, names: Sequence[str]
) -> Labelled:
    """Labelled images for a network with scores of so many classes.

    ``given`` is a folder with a folder of pictures for each class, or ``.npz`` or a mapping with an array called
    ``labels`` besides those of the inputs: (N,), from 0 on. ``names`` are those of the classes in the order of the
    scores; empty if unknown.

    Raises:
        InputError: they can't be read, or their classes aren't the network's.
        UsageError: it isn't known how pictures are normalized.
    """
    if len(names) not in (0, classes):
        raise InputError(
            f"{len(names)} names are known for the {classes} classes of the network", hint="Check --labels."
        )
    if isinstance(given, Mapping):
        origin, found = "", dict(given)
    elif _is_folder(Path(given)):
        return _of_folders(Path(given), inputs, options, classes, tuple(names))
    else:
        origin, found = str(given), dict(arrays.load(Path(given), inputs))
    name = origin or "the mapping of images"
    labels = found.pop(LABELS, None)
    if labels is None:
        raise InputError(
            f"{name} has no labels",
            hint=f"Expected is a folder with a folder for each class, or .npz with images and an array {LABELS!r}.",
        )
    images = of_arrays(arrays.checked(found, inputs, name), origin, options.normalization)
    return Labelled(images, _numbers(labels, len(images), classes, name), _or_numbers(names, classes), NUMBERS)


def _is_folder(path: Path) -> bool:
    check_there(path)
    return path.is_dir()


def _numbers(labels: Array, images: int, classes: int, origin: str) -> tuple[int, ...]:
    if labels.dtype.kind not in "iu" or labels.shape != (images,):
        raise InputError(
            f"{origin} has labels of {labels.dtype} {labels.shape} for {images} images",
            hint="Expected are (N,) integers.",
        )
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise InputError(
            f"{origin} has labels from {labels.min()} to {labels.max()}, and the network knows {classes} classes",
            hint=f"Expected are numbers from 0 to {classes - 1}.",
        )
    return tuple(labels.tolist())


def _or_numbers(names: Sequence[str], classes: int) -> tuple[str, ...]:
    return tuple(names) or tuple(map(str, range(classes)))


def _of_folders(
    path: Path, inputs: Sequence[Input], options: PictureOptions, classes: int, names: tuple[str, ...]
) -> Labelled:
    folders = folders_in(path)
    if not folders:
        raise InputError(
            f"{path} has no folders of classes",
            hint="Expected is a folder of pictures for each class, as in ImageFolder.",
        )
    number, matched = _matched(folders, path, classes, names)
    how = preprocessing_for(inputs, options)
    images = of_pictures([path / name for name in folders], inputs, how)
    images = ImageSet(structs.replace(images.source, path=str(path)), images.names, images.load)
    labels = tuple(number[Path(name).relative_to(path).parts[0]] for name in images.names)
    known = names or (tuple(folders) if matched == IN_ORDER else _or_numbers((), classes))
    return Labelled(images, labels, known, matched)


def _matched(folders: Sequence[str], path: Path, classes: int, names: tuple[str, ...]) -> tuple[dict[str, int], str]:
    """The class of each folder: by its name where the classes have names, else in the order of ImageFolder."""
    if twice := next((name for name in folders if names.count(name) > 1), None):
        raise InputError(f"several classes are called like the folder {twice}", hint="Name them apart with --labels.")
    strangers = [name for name in folders if name not in names]
    if not strangers:
        return {name: names.index(name) for name in folders}, BY_NAME
    if len(strangers) < len(folders):
        raise InputError(
            f"{path} has folders that are called like no class: {', '.join(strangers[:MOST_NAMED])}",
            hint=f"The classes are {', '.join(names[:MOST_NAMED])}{', ...' if classes > MOST_NAMED else ''}; "
            "--labels names others.",
        )
    if len(folders) != classes:
        raise InputError(
            f"{path} has {len(folders)} folders, and the network knows {classes} classes",
            hint="Name the folders like the classes, and the classes with --labels FILE.",
        )
    return {name: i for i, name in enumerate(folders)}, IN_ORDER
