"""Pictures to inputs, as torchvision's classification presets do it: Resize, CenterCrop, ToTensor, Normalize.

Pillow's resizing is antialiased, and torchvision calls it for Pillow's images, so the pixels are equal.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from attn_export.exporter.artifacts import BGR, NHWC, RGB, Input, Normalization
from attn_export.exporter.errors import InputError, RuntimeUnavailableError, UsageError
from attn_export.exporter.network.images import IMAGE_RANK
from attn_export.exporter.network.values import FLOATS, range_of
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.images import PicturePreprocessing

if TYPE_CHECKING:
    from PIL.Image import Image

COLOURS = {1: "grey", 3: "RGB"}
REVERSED = "BGR"
INTERPOLATIONS = ("bilinear", "bicubic")
FORMATS = ("BMP", "JPEG", "PNG", "WEBP")
# The centre of a photograph that is looked at; smaller networks are trained on whole images.
CROPPED_FROM, SHARE_OF_CROP = 128, 7 / 8
MOST_PIXELS = 89_000_000  # as Pillow's
# Of a JPEG of so many pixels. Each goes over all of them, and is 14 bytes long at least; cameras write about ten.
MOST_SCANS, START_OF_SCAN = 64, b"\xff\xda"
INSTALL = "pip install -c constraints.txt -e '.[images]'"
SIXTEEN_BITS = 257  # 65535 / 255


@dataclass(frozen=True)
class PictureOptions:
    """How pictures become inputs.

    Attributes:
        normalization: of pixels in 0..1; None: that which brings them to the range of the input.
        resize: the shorter side, or (height, width); empty for 8/7 of the input, below 128 pixels the input's size.
        interpolation: "bilinear" or "bicubic".
        order: of the input's colours.
    """

    normalization: Normalization | None = None
    resize: tuple[int, ...] = ()
    interpolation: str = INTERPOLATIONS[0]
    order: str = RGB


def preprocessing_for(inputs: Sequence[Input], options: PictureOptions) -> PicturePreprocessing:
    """The preprocessing of a network.

    Raises:
        InputError: it doesn't take pictures.
        UsageError: its normalization or size isn't known, or the options don't fit.
    """
    taken, *others = inputs
    channels = taken.shape[-1 if taken.layout == NHWC else 1] if len(taken.shape) == IMAGE_RANK + 1 else 0
    if others or channels not in COLOURS:
        described = "; ".join(f"{entry.name} ({', '.join(map(str, entry.shape))})" for entry in inputs)
        raise InputError(
            f"pictures are for networks with one input (N, 3, H, W) or (N, 1, H, W), and this one takes {described}",
            hint="Give arrays instead, as .npy or .npz.",
        )
    normalization = (options.normalization or _of_range(taken)).for_channels(channels)
    crop = _crop(taken, options.resize)
    resize = options.resize or _default_resize(crop)
    if any(side < least for side, least in zip(resize, crop if len(resize) > 1 else (min(crop),), strict=True)):
        raise UsageError(
            f"--resize {'x'.join(map(str, resize))} is smaller than the network's input, {crop[0]}x{crop[1]}",
            hint=f"For example --resize {crop[0]}x{crop[1]}.",
        )
    colour = REVERSED if channels == 3 and options.order == BGR else COLOURS[channels]
    return PicturePreprocessing(colour, resize, crop, options.interpolation, normalization.mean, normalization.std)


def _of_range(taken: Input) -> Normalization:
    """What brings 0..1 to the range of an input."""
    if (limits := range_of(taken)) is None:
        raise UsageError(
            "nothing says how the network's images are normalized",
            hint="--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 is ImageNet's; --mean 0 --std 1 leaves 0 to 1.",
        )
    low, high = limits
    return Normalization((-low / (high - low),), (1 / (high - low),))


def _crop(taken: Input, resize: Sequence[int]) -> tuple[int, int]:
    height, width = taken.shape[1:3] if taken.layout == NHWC else taken.shape[2:]
    if height and width:
        return height, width
    if not resize:
        raise UsageError(
            f"the file takes images of any size ({', '.join(map(str, taken.shape))})", hint="Add --resize 224x224."
        )
    return height or resize[0], width or resize[-1]


def _default_resize(crop: tuple[int, int]) -> tuple[int, ...]:
    height, width = crop
    if height != width:
        return crop
    return (math.ceil(height / SHARE_OF_CROP) if height >= CROPPED_FROM else height,)


def prepared(path: Path, how: PicturePreprocessing, taken: Input) -> Array:
    """One picture as an input, (C, H, W), or (H, W, C) where the input's layout is that.

    Raises:
        InputError: it can't be read.
        RuntimeUnavailableError: Pillow isn't installed.
    """
    image = opened(path, how)
    image = cropped(resized(image, resized_size(image, how), how.interpolation), how.crop)
    pixels = np.asarray(image, np.float32) / np.float32(255)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    mean, std = np.array(how.mean, np.float32), np.array(how.std, np.float32)
    values = (pixels - mean) / std
    values = values[..., ::-1] if how.colour == REVERSED else values
    values = values if taken.dtype in FLOATS else np.round(values)
    return np.ascontiguousarray(values if taken.layout == NHWC else values.transpose(2, 0, 1), taken.dtype)


def opened(path: Path, how: PicturePreprocessing) -> "Image":
    """A picture in RGB or grey, upright.

    Raises:
        InputError: it can't be read.
        RuntimeUnavailableError: Pillow isn't installed.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ModuleNotFoundError as error:
        raise RuntimeUnavailableError("reading pictures needs Pillow, which isn't installed", hint=INSTALL) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged EXIF
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                _refuse_lines(image, how, path)
                _refuse_scans(image, path)
                upright = _in_eight_bits(ImageOps.exif_transpose(image))
                return upright.convert("L") if how.colour == COLOURS[1] else upright
    except (InputError, MemoryError):
        raise
    except Exception as error:
        reason = "it is no picture that Pillow knows" if isinstance(error, UnidentifiedImageError) else error
        raise InputError(
            f"{path} can't be read as a picture: {reason}",
            hint=f"Expected is one of {', '.join(FORMATS)} of at most {MOST_PIXELS // 10**6} million pixels. "
            "Leave it out, or save it anew.",
        ) from error


def _refuse_lines(image: "Image", how: PicturePreprocessing, path: Path) -> None:
    """Refuse a picture so narrow that resizing its shorter side would fill the memory."""
    if math.prod(size := resized_size(image, how)) > MOST_PIXELS:
        raise InputError(
            f"{path} is {image.width}x{image.height}, which would be resized to {size[0]}x{size[1]}",
            hint="Leave it out, or crop it.",
        )


def _refuse_scans(image: "Image", path: Path) -> None:
    """Refuse a JPEG whose scans would be decoded for hours. Other bytes that look like a scan's first are few."""
    if image.format != "JPEG":
        return
    scans = path.read_bytes().count(START_OF_SCAN)
    if scans * image.width * image.height > MOST_SCANS * MOST_PIXELS:
        raise InputError(
            f"{path} is {image.width}x{image.height} in {scans} scans, each of which is decoded",
            hint="Leave it out, or save it anew.",
        )


def _in_eight_bits(image: "Image") -> "Image":
    """A picture in RGB: transparency is dropped, 16 bits are rounded to 8."""
    from PIL import Image

    if image.mode.startswith("I"):
        narrow = (np.asarray(image, np.float32) / SIXTEEN_BITS).round().clip(0, 255)
        return Image.fromarray(narrow.astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def resized_size(image: "Image", how: PicturePreprocessing) -> tuple[int, int]:
    """The width and height of a picture after a preprocessing's resizing."""
    if len(how.resize) == 2:
        return how.resize[1], how.resize[0]
    shorter, longer = sorted(image.size)
    sides = how.resize[0], how.resize[0] * longer // shorter
    return sides if image.width <= image.height else (sides[1], sides[0])


def resized(image: "Image", size: tuple[int, int], interpolation: str) -> "Image":
    """A picture of another width and height."""
    from PIL import Image

    return image.resize(size, Image.Resampling[interpolation.upper()])


def cropped(image: "Image", crop: tuple[int, int]) -> "Image":
    """The centre of a picture."""
    height, width = crop
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
