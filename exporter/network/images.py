"""The kinds of validation images, from a fixed seed."""

from collections.abc import Callable
from typing import Any

import numpy as np

Image = np.ndarray[Any, np.dtype[np.float32]]  # (C, H, W)
Kind = Callable[[tuple[int, int, int], np.random.Generator], Image]

IMAGE_RANK = 3
SEED = 20180701  # the month by which SE and CBAM were published
# White and black after the usual normalization of photographs (mean 0.45, deviation 0.22).
WHITE, BLACK = 2.5, -2.05
# Of drawings: equal pixels would all be rounded in the same direction.
GRAIN = 0.05
LARGE, TINY = 8.0, 1e-3


def natural(shape: tuple[int, int, int], draw: np.random.Generator) -> Image:
    """Noise with the 1/f spectrum of photographs.

    Field: "Relations between the statistics of natural images and the response properties of cortical cells", 1987.
    """
    channels, height, width = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1.0 / max(height, width)
    spectrum = np.fft.rfft2(draw.standard_normal((channels, height, width))) / frequency
    image = np.fft.irfft2(spectrum, s=(height, width))
    image -= image.mean()
    return (image / (image.std() + 1e-12)).astype(np.float32)


def landscape(shape: tuple[int, int, int]) -> Image:
    """A drawing with mean 0 and deviation 1: the sun, hills, a house, a tree; grey unless there are 3 channels."""
    channels, height, width = shape
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    roof = np.abs(x - 0.34) + 0.62 < y
    parts: list[tuple[tuple[float, float, float], Any]] = [
        ((0.98, 0.82, 0.30), np.hypot(x - 0.76, y - 0.22) < 0.11),
        ((0.36, 0.50, 0.58), y > 0.52 + 0.10 * np.sin(7 * x + 0.6)),
        ((0.40, 0.60, 0.28), y > 0.74 + 0.06 * np.sin(5 * x + 2.4)),
        ((0.72, 0.24, 0.18), roof & (y < 0.5 + 0.3)),
        ((0.93, 0.88, 0.78), (np.abs(x - 0.34) < 0.13) & (y > 0.72) & (y < 0.90)),
        ((0.28, 0.20, 0.16), (np.abs(x - 0.34) < 0.035) & (y > 0.79) & (y < 0.90)),
        ((0.38, 0.26, 0.16), (np.abs(x - 0.80) < 0.022) & (y > 0.66) & (y < 0.88)),
        ((0.16, 0.38, 0.20), np.hypot(x - 0.80, y - 0.60) < 0.14),
    ]
    sky = np.array([0.45, 0.66, 0.90])[:, None, None] + np.array([0.40, 0.22, 0.06])[:, None, None] * y
    for colour, inside in parts:
        sky = np.where(inside, np.array(colour)[:, None, None], sky)
    image = sky if channels == len(sky) else np.repeat(sky.mean(0, keepdims=True), channels, axis=0)
    return ((image - image.mean()) / (image.std() + 1e-12)).astype(np.float32)


# Letters of five columns, the lowest bit on top.
GLYPHS = {
    "A": (0x7E, 0x11, 0x11, 0x11, 0x7E),
    "E": (0x7F, 0x49, 0x49, 0x49, 0x41),
    "I": (0x00, 0x41, 0x7F, 0x41, 0x00),
    "N": (0x7F, 0x04, 0x08, 0x10, 0x7F),
    "O": (0x3E, 0x41, 0x41, 0x41, 0x3E),
    "T": (0x01, 0x01, 0x7F, 0x01, 0x01),
    " ": (0x00, 0x00, 0x00, 0x00, 0x00),
}
WORDS, GLYPH_HEIGHT, LETTER_SIZES = "ATTENTION TO A TONE ", 7, (1, 2, 3)


def lettering(shape: tuple[int, int, int], draw: np.random.Generator) -> Image:
    """Lines of black letters on white, in three sizes: detectors of text or edges answer nothing to noise."""
    channels, height, width = shape
    columns = np.array([column for letter in WORDS for column in (*GLYPHS[letter], 0)])
    text = np.pad(columns[None, :] >> np.arange(GLYPH_HEIGHT)[:, None] & 1, ((1, 1), (0, 0)))
    smallest = max(1, min(height, width) // 64)
    lines = []
    for size in LETTER_SIZES * (height // len(text) + 1):
        line = np.kron(np.roll(text, int(draw.integers(len(columns))), axis=1), np.ones((size * smallest,) * 2))
        lines.append(np.resize(line.T, (width, len(line))).T)
    page = np.concatenate(lines)[:height]
    return np.repeat(np.where(page[None] > 0, BLACK, WHITE), channels, axis=0).astype(np.float32)


def noise(shape: tuple[int, ...], draw: np.random.Generator) -> Image:
    """White noise."""
    return draw.standard_normal(shape, dtype=np.float32)


def large(shape: tuple[int, int, int], draw: np.random.Generator) -> Image:
    """Eight times a normalized image, as if normalization was forgotten."""
    return noise(shape, draw) * np.float32(LARGE)


def tiny(shape: tuple[int, int, int], draw: np.random.Generator) -> Image:
    """Almost no contrast: reveals divisions by a deviation, and values near float16's minimum."""
    return noise(shape, draw) * np.float32(TINY)


def zeros(shape: tuple[int, int, int], draw: np.random.Generator) -> Image:  # noqa: ARG001 (common signature)
    """A zero image: only biases contribute."""
    return np.zeros(shape, np.float32)


def impulse(shape: tuple[int, int, int], draw: np.random.Generator) -> Image:
    """A single white pixel off the centre: reveals shifted, flipped and transposed maps."""
    image = np.zeros(shape, np.float32)
    place: tuple[Any, ...] = (slice(None), *(int(draw.integers(0, max(1, size // 2))) for size in shape[1:]))
    image[place] = WHITE
    return image


def saturated(shape: tuple[int, int, int], draw: np.random.Generator) -> Image:
    """Only black and white pixels."""
    return np.where(noise(shape, draw) > 0, np.float32(WHITE), np.float32(BLACK))


# Nominal inputs; errors are pooled over all images of a kind.
KINDS: dict[str, Kind] = {"natural": natural, "noise": noise}
REAL = "real"
NOMINAL = frozenset({*KINDS, REAL})
# Stress inputs: one of each, so its baseline error may be small by chance; see `metrics` and `verdict`.
STRESS: dict[str, Kind] = {"large": large, "tiny": tiny, "zeros": zeros, "impulse": impulse, "saturated": saturated}
# Kinds with nearly constant maps; see `arithmetic.Perturbation`.
FAINT = frozenset({"tiny", "zeros", "impulse"})
# Kinds with possibly constant maps, the user's images included; see `verdict`.
FLAT = frozenset({*STRESS, REAL})
POOL = ("natural", "natural", "noise", "noise", *STRESS)
# Pictures for graphs of unknown purpose: one of them moves most outputs.
PICTURES: dict[str, Kind] = {"lettering": lettering, "landscape": lambda shape, _: landscape(shape), **KINDS}


def picture(kind: str, shape: tuple[int, int, int], draw: np.random.Generator) -> Image:
    """One of `PICTURES` in its own light: with a mean of 0, what is computed from means would be rounding errors."""
    light, contrast = draw.uniform(0.25, 1.0) * draw.choice((-1, 1)), draw.uniform(0.5, 1.5)
    grain = GRAIN * draw.standard_normal(shape)
    return np.asarray(contrast * (PICTURES[kind](shape, draw) + grain) + light, np.float32)


# For other sizes than the network's.
SMALL_POOL = ("natural", "noise")
