"""Pictures become the inputs that torchvision's transforms make of them."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attn_export.exporter.artifacts import BGR, NHWC, Input, Normalization
from attn_export.exporter.errors import InputError, RuntimeUnavailableError, UsageError
from attn_export.exporter.images.preprocessing import PictureOptions, prepared, preprocessing_for

IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SMALL, LARGE, GREY = (Input("x", (1, channels, side, side)) for channels, side in ((3, 32), (3, 224), (1, 32)))
CASES = {
    "plain": (SMALL, PictureOptions(IMAGENET)),  # Resize(32), CenterCrop(32)
    "bicubic": (SMALL, PictureOptions(IMAGENET, (37,), "bicubic")),  # Resize(37, BICUBIC), CenterCrop(32)
    "exact": (SMALL, PictureOptions(IMAGENET, (40, 33))),  # Resize((40, 33)), CenterCrop(32)
    "photo": (LARGE, PictureOptions(IMAGENET)),  # Resize(256), CenterCrop(224)
    "grey": (GREY, PictureOptions(Normalization((0.5,), (0.25,)))),  # Grayscale(), Resize(32), CenterCrop(32)
}
# Size, case, and of torchvision 0.29.1's result three pixels and the sum: [0, 1, 2], [1, 20, 30] and [2, -3, -1], of
# grey ones all of the only channel. All 25 results that were compared are equal to the last bit.
OF_TORCHVISION = [
    ((90, 61), "plain", (0.348061, -0.530112, 0.234771, 561.437)),
    ((90, 61), "bicubic", (0.793304, 1.868347, 0.182484, 742.895)),
    ((90, 61), "exact", (-0.953421, 0.152661, 0.809935, 420.937)),
    ((90, 61), "photo", (0.262437, 0.275210, 0.687930, 35701.492)),
    ((90, 61), "grey", (-0.509804, -0.415686, 0.525490, -26.196)),
    ((61, 90), "plain", (-0.696549, 1.570728, 0.496209, 492.787)),
    ((61, 90), "bicubic", (-0.251306, -0.232493, -0.183529, 582.591)),
    ((61, 90), "grey", (-1.294118, 0.290196, -0.258824, -96.016)),
    ((333, 251), "plain", (1.152924, 0.170168, 0.391634, 663.279)),
    ((333, 251), "photo", (1.426920, 0.380252, -1.124706, 32632.605)),
    ((40, 40), "exact", (-1.552787, -1.440476, 1.995120, -255.351)),
    ((40, 40), "photo", (-1.706910, -1.790616, -0.549542, 2694.540)),
]


def drawing(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    channels = [(x * 7 + y * 3) % 256, (x * x // 5 + y) % 256, (x * y) % 256]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8))


def input_of(image: Image.Image, path: Path, case: str = "plain", **options: Any) -> np.ndarray:
    image.save(path, **options)
    taken, given = CASES[case]
    return prepared(path, preprocessing_for([taken], given), taken)


@pytest.mark.parametrize(("size", "case", "expected"), OF_TORCHVISION)
def test_pixels_are_those_of_torchvision(
    size: tuple[int, int], case: str, expected: tuple[float, ...], tmp_path: Path
) -> None:
    made = input_of(drawing(*size), tmp_path / "a.png", case)
    last = len(made) - 1
    assert made.dtype == np.float32
    pixels = made[0, 1, 2], made[min(1, last), 20, 30], made[last, -3, -1]
    assert pixels == pytest.approx(expected[:3], abs=2e-6)
    assert made.astype(np.float64).sum() == pytest.approx(expected[3], abs=2e-3)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    """A white picture with a black half is that in every mode; RGB is what the network takes."""
    pixels = np.full((32, 32), 255, np.uint8)
    pixels[:, :16] = 0
    grey = Image.fromarray(pixels)
    image = Image.fromarray(pixels.astype(np.uint16) * 257) if mode == "I;16" else grey.convert("RGB").convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    made = input_of(image, path, quality=100)
    plain = input_of(grey.convert("RGB"), tmp_path / "b.png")
    assert made.shape == (3, 32, 32)
    assert np.abs(made - plain).max() < (0.1 if mode == "CMYK" else 1e-6)


def test_a_transparent_palette_is_read_without_a_warning(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    image = drawing(32, 32).convert("P")
    image.info["transparency"] = bytes([0, 128, 255])
    image.save(tmp_path / "a.png")
    input_of(image, tmp_path / "b.png", transparency=bytes([0, 128, 255]))
    assert not recwarn.list


@pytest.mark.parametrize(("orientation", "turn"), [(3, 2), (6, -1), (8, 1)])
def test_a_picture_is_turned_as_its_exif_data_says(orientation: int, turn: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = input_of(drawing(32, 32), tmp_path / "a.png", exif=exif)
    assert np.array_equal(turned, np.rot90(input_of(drawing(32, 32), tmp_path / "b.png"), turn, axes=(1, 2)))


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "bmp"])
def test_every_format_is_read(ending: str, tmp_path: Path) -> None:
    smooth = drawing(320, 320).resize((32, 32)).resize((64, 64))
    options = {"lossless": True} if ending == "webp" else {"quality": 100} if ending == "jpg" else {}
    made = input_of(smooth, tmp_path / f"a.{ending}", **options)
    assert np.abs(made - input_of(smooth, tmp_path / "b.png")).mean() < (0.1 if ending == "jpg" else 1e-6)


def test_an_input_with_a_range_gets_pixels_in_it(tmp_path: Path) -> None:
    drawing(32, 32).save(tmp_path / "a.png")
    pixels = np.asarray(drawing(32, 32)).transpose(2, 0, 1)
    for taken in (Input("x", (1, 3, 32, 32), "uint8"), Input("x", (1, 3, 32, 32), range=(0, 255))):
        made = prepared(tmp_path / "a.png", preprocessing_for([taken], PictureOptions()), taken)
        assert made.dtype == taken.dtype
        assert np.allclose(made, pixels, atol=1e-3)
    signed = Input("x", (1, 3, 32, 32), range=(-1, 1))
    made = prepared(tmp_path / "a.png", preprocessing_for([signed], PictureOptions()), signed)
    assert np.allclose(made, pixels / 127.5 - 1, atol=1e-5)


def test_pixels_are_taken_in_the_layout_and_order_of_the_input(tmp_path: Path) -> None:
    drawing(32, 32).save(tmp_path / "a.png")
    taken = Input("x", (1, 32, 32, 3), "uint8", layout=NHWC)
    how = preprocessing_for([taken], PictureOptions(order=BGR))
    assert how.colour == "BGR"
    assert str(how) == "BGR, resized to shorter side 32 (bilinear), centre crop 32x32, values 0 to 255"
    assert np.array_equal(prepared(tmp_path / "a.png", how, taken), np.asarray(drawing(32, 32))[..., ::-1])


def test_a_network_of_another_shape_gets_the_whole_picture() -> None:
    lines = preprocessing_for([Input("x", (1, 3, 48, 192))], PictureOptions(IMAGENET))
    assert lines.resize == lines.crop == (48, 192)
    large = preprocessing_for([Input("x", (1, 3, 299, 299))], PictureOptions(IMAGENET))
    assert large.resize == (342,)
    free = preprocessing_for([Input("x", (0, 3, 0, 0))], PictureOptions(IMAGENET, (40, 50)))
    assert free.crop == (40, 50)


@pytest.mark.parametrize(
    ("inputs", "options", "error", "message"),
    [
        ([Input("x", (1, 4, 32, 32))], PictureOptions(IMAGENET), InputError, "this one takes x"),
        ([Input("x", (1, 12))], PictureOptions(IMAGENET), InputError, "this one takes x"),
        ([SMALL, Input("y", (1, 3))], PictureOptions(IMAGENET), InputError, "this one takes x .*; y"),
        ([SMALL], PictureOptions(), UsageError, "nothing says how the network's images are normalized"),
        ([SMALL], PictureOptions(Normalization((0, 0), (1, 1))), UsageError, "2 and 2 numbers, .* 3 channels"),
        ([SMALL], PictureOptions(IMAGENET, (20,)), UsageError, "--resize 20 is smaller"),
        ([SMALL], PictureOptions(IMAGENET, (40, 20)), UsageError, "--resize 40x20 is smaller"),
        ([Input("x", (0, 3, 0, 0))], PictureOptions(IMAGENET), UsageError, "images of any size"),
    ],
)
def test_what_cannot_be_preprocessed_is_named(
    inputs: list[Input], options: PictureOptions, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        preprocessing_for(inputs, options)


def test_without_pillow_the_command_that_installs_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(RuntimeUnavailableError, match="needs Pillow") as caught:
        prepared(tmp_path / "a.png", preprocessing_for([SMALL], PictureOptions(IMAGENET)), SMALL)
    assert "[images]" in caught.value.hint
