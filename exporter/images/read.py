"""The user's images from wherever they are: folders and files of pictures, ``.npy``, ``.npz``, arrays."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs

from attn_export.exporter.artifacts import Input, Normalization
from attn_export.exporter.errors import UsageError
from attn_export.exporter.images import arrays
from attn_export.exporter.images.folders import check_there, pictures_of
from attn_export.exporter.images.iterables import NAMED, named_iterable, read_iterable
from attn_export.exporter.images.preprocessing import PictureOptions, prepared, preprocessing_for
from attn_export.exporter.records.arrays import Array, Arrays
from attn_export.exporter.records.images import ImageSource, PicturePreprocessing

# Of the span of a normalization; and from how many images on none has a pixel below the mean by chance.
BEYOND, MANY = 0.05, 8
Given = Path | str | Sequence[Path | str] | Array | Arrays | Iterable[Any]


@dataclass(frozen=True)
class ImageSet:
    """Images as a network takes them; pictures are decoded when they are asked for.

    Attributes:
        names: of each; a picture's path.
        load: (N, ...) of each input by its name, given the numbers of the images.
    """

    source: ImageSource
    names: tuple[str, ...]
    load: Callable[[Sequence[int]], Arrays]

    def __len__(self) -> int:
        return len(self.names)

    def spread(self, most: int) -> "ImageSet":
        """At most this many of them, evenly spaced."""
        if len(self) <= most:
            return self
        rows = np.linspace(0, len(self) - 1, most).astype(int).tolist()
        note = f"{most} of its {len(self)} images are used, evenly spaced"
        source = structs.replace(self.source, images=most, notes=(*self.source.notes, note))
        return ImageSet(source, tuple(self.names[i] for i in rows), lambda chosen: self.load([rows[i] for i in chosen]))

    @property
    def all(self) -> Arrays:
        """All of them in memory."""
        return self.load(range(len(self)))


def read_images(given: "Given | ImageSet", inputs: Sequence[Input], options: PictureOptions | None = None) -> ImageSet:
    """The user's images; of ``inputs`` a size of 0 takes any.

    ``given`` is a folder, pictures, one ``.npy`` or ``.npz``, an array (N, ...), or one for each input by name, an
    iterable of arrays or tensors, or its name, ``package.module:name``. Pictures are resized, cropped and normalized;
    arrays are taken as they are, with a note if they can't have been normalized as the options say.

    Raises:
        InputError: they can't be read or don't fit.
        UsageError: they are given twice, or it isn't known how pictures are normalized.
    """
    if isinstance(given, ImageSet):
        return given
    options = options or PictureOptions()
    if isinstance(given, np.ndarray):
        given = {inputs[0].name: given}
    if isinstance(given, Mapping):
        return of_arrays(arrays.checked(given, inputs, "the mapping of images"), "", options.normalization)
    if isinstance(given, str | Path):
        given = [given]
    if not isinstance(given, Sequence) or not all(isinstance(one, str | Path) for one in given):
        return of_arrays(read_iterable(given, inputs, "the iterable"), "", options.normalization)
    paths = [Path(path) for path in given]
    if len(paths) == 1 and NAMED.fullmatch(name := str(paths[0])) and not paths[0].exists():
        return of_arrays(read_iterable(named_iterable(name), inputs, name), name, options.normalization)
    if not paths:
        raise UsageError("no images were named", hint="Name a folder, pictures, or an array.")
    of_array = any(path.suffix.lower() in arrays.ENDINGS for path in paths)
    if of_array and len(paths) > 1:
        raise UsageError(f"{paths[0]} is one of several", hint="Give one array, or pictures.")
    for path in paths:
        check_there(path)
    if of_array:
        return of_arrays(arrays.read_arrays(paths[0], inputs), str(paths[0]), options.normalization)
    return of_pictures(paths, inputs, preprocessing_for(inputs, options))


def of_arrays(images: Arrays, origin: str, normalization: Normalization | None) -> ImageSet:
    """Images that are in memory, which should be normalized already."""
    first = next(iter(images.values()))
    names = tuple(f"image {i}" for i in range(len(first)))
    notes = tuple(filter(None, [unnormalized(first, normalization)])) if normalization else ()
    return ImageSet(
        ImageSource(origin, len(first), notes=notes),
        names,
        lambda rows: {name: array[list(rows)] for name, array in images.items()},
    )


def of_pictures(paths: Sequence[Path], inputs: Sequence[Input], how: PicturePreprocessing) -> ImageSet:
    """Pictures among files and in folders."""
    pictures, others = pictures_of(paths)
    (taken,) = inputs
    source = ImageSource(str(paths[0]), len(pictures), tuple(path.name for path in others), how)

    def load(rows: Sequence[int]) -> Arrays:
        return {taken.name: np.stack([prepared(pictures[i], how, taken) for i in rows])}

    return ImageSet(source, tuple(map(str, pictures)), load)


def unnormalized(images: Array, normalization: Normalization) -> str:
    """A warning for images (N, C, H, W) that can't have been normalized so, with figures; empty for others."""
    mean, std = np.array(normalization.mean), np.array(normalization.std)
    low, high = float((-mean / std).min()), float(((1 - mean) / std).max())
    least, most, slack = float(images.min()), float(images.max()), BEYOND * (high - low)
    beyond = least < low - slack or most > high + slack
    raw = least >= 0 and most <= 1 and (low < -BEYOND or high > 1 + BEYOND) and len(images) >= MANY
    if not beyond and not raw:
        return ""
    return (
        f"its values go from {least:.3g} to {most:.3g}; images with the network's normalization (mean {_words(mean)}, "
        f"std {_words(std)}) lie between {low:.3g} and {high:.3g}: were they normalized?"
    )


def _words(values: Array) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
