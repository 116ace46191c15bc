"""The validation images, from a fixed seed.

There is one pool for each image size. Batches of several sizes are drawn from it in different orders, so one float64
reference of each image serves all batches.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attn_export.exporter.errors import UsageError
from attn_export.exporter.records.arrays import Array

Image = np.ndarray[Any, np.dtype[np.float32]]  # (C, H, W)
Images = np.ndarray[Any, np.dtype[np.float32]]  # (N, C, H, W)
Kind = Callable[[tuple[int, int, int], np.random.Generator], Image]

IMAGE_RANK = 3
SEED = 20180701  # the month by which SE and CBAM were published
# Runtimes take other paths for a batch of one than for larger ones.
BATCHES = (1, 2, 4)
# For dynamic height and width: not square, and not below the network's size, which may be its minimum.
SIZE_FACTORS = ((1.25, 1.0), (1.0, 1.5))
SIZE_MULTIPLE = 32
# White and black after the usual normalization of photographs (mean 0.45, deviation 0.22).
WHITE, BLACK = 2.5, -2.05
LARGE, TINY = 8.0, 1e-3
# More of the user's images only take time.
MOST_REAL = 16


@dataclass(frozen=True)
class Batch:
    """A batch of images.

    Attributes:
        images: (N, C, H, W).
        kinds: of each.
        names: of each; equal names mean equal images. Empty: all images differ.
    """

    images: Images
    kinds: tuple[str, ...]
    names: tuple[str, ...] = ()


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
# For other sizes than the network's.
SMALL_POOL = ("natural", "noise")


def batches(
    own_shape: tuple[int, ...],
    dynamic: Collection[str],
    batch: int,
    judged: Sequence[tuple[int, ...]] = (),
    real: Images | None = None,
) -> list[Batch]:
    """The validation batches: several batch sizes, and several image sizes if they are dynamic.

    The largest batch size of each image size, and the largest of an engine, cover the whole pool, others a part of it.
    Nominal images have mean 0 and deviation 1, like normalized inputs.

    Args:
        own_shape: the network's (C, H, W).
        dynamic: of "batch", "height" and "width".
        batch: N if it is static.
        judged: further shapes (N, C, H, W), from an engine's profile.
        real: the user's images, (N, C, H, W) in the network's size; at most `MOST_REAL` are used.
    """
    sizes = BATCHES if "batch" in dynamic else (batch,)
    shapes = [(n, own_shape) for n in sizes] + [(sizes[:2][-1], shape) for shape in other_shapes(own_shape, dynamic)]
    shapes += [(n, tuple(shape)) for n, *shape in judged]
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for n, shape in dict.fromkeys(shapes):
        by_shape.setdefault(shape, []).append(n)
    found: list[Batch] = []
    for shape, counts in by_shape.items():
        pool = _pool(shape, POOL, real) if shape == own_shape else _pool(shape, SMALL_POOL, None)
        largest = max((n for n, *size in judged if tuple(size) == shape), default=0)
        found += _drawn(pool, sorted(counts), {max(counts), largest})
    return found


def nominal_batches(own_shape: tuple[int, ...], batch: int, count: int) -> list[Batch]:
    """At least ``count`` nominal images in batches of one size.

    Args:
        own_shape: (C, H, W).
        batch: N of each.
        count: of images.
    """
    number = -(-count // batch) * batch
    kinds = tuple(list(KINDS)[i % len(KINDS)] for i in range(number))
    pool = _pool(own_shape, kinds, None)
    named = Batch(pool.images, pool.kinds, tuple(f"ordinary {name}" for name in pool.names))
    return [_select(named, range(i, i + batch)) for i in range(0, number, batch)]


def _pool(shape: tuple[int, ...], kinds: Sequence[str], real: Images | None) -> Batch:
    """One image of each kind, and the user's images."""
    draw = np.random.default_rng([SEED, *shape])
    images = [_image(kind, shape, draw) for kind in kinds]
    if real is not None:
        chosen = np.unique(np.linspace(0, len(real) - 1, min(len(real), MOST_REAL)).astype(int))
        images = [*(np.asarray(real[i], np.float32) for i in chosen), *images]
        kinds = (*[REAL] * len(chosen), *kinds)
    if len(shape) != IMAGE_RANK:  # not an image: the spectrum is undefined
        kinds = ["noise" if kind == "natural" else kind for kind in kinds]
    names = tuple(f"{'x'.join(map(str, shape))}/{i}" for i in range(len(images)))
    return Batch(np.stack(images), tuple(kinds), names)


def _drawn(pool: Batch, counts: Sequence[int], complete: Collection[int]) -> list[Batch]:
    """Batches of these ascending sizes; those in ``complete`` cover all images."""
    draw = np.random.default_rng(SEED)
    size, position, drawn = len(pool.kinds), 0, []
    for n in counts:
        if n in complete:
            # Fill up the last batch, unless its size is drawn too.
            filled = size if size % n in (0, *counts) else -(-size // n) * n
            rows = draw.permutation(np.arange(filled) % size)
            drawn += [_select(pool, rows[i : i + n]) for i in range(0, len(rows), n)]
        else:
            drawn.append(_select(pool, draw.permutation([(position + i) % size for i in range(n)])))
            position += n
    return drawn


def _select(pool: Batch, rows: Iterable[int]) -> Batch:
    chosen = [int(i) for i in rows]
    return Batch(pool.images[chosen], tuple(pool.kinds[i] for i in chosen), tuple(pool.names[i] for i in chosen))


def feeds_for(shapes: Mapping[str, tuple[int, ...]]) -> list[dict[str, Array]]:
    """Inputs for a graph with known shapes only: one run with natural images, one with noise.

    Args:
        shapes: name -> (N, C, H, W), or any other shape, which gets noise.
    """
    draw = np.random.default_rng(SEED)
    return [
        {name: np.stack([_image(kind, shape[1:], draw) for _ in range(shape[0])]) for name, shape in shapes.items()}
        for kind in KINDS
    ]


def _image(kind: str, shape: tuple[int, ...], draw: np.random.Generator) -> Any:
    if kind == "natural" and len(shape) != IMAGE_RANK:
        kind = "noise"
    return {**KINDS, **STRESS}[kind](shape, draw)  # type: ignore[arg-type]


def other_shapes(own_shape: tuple[int, ...], dynamic: Collection[str]) -> list[tuple[int, ...]]:
    """Further image shapes; none if height and width are static.

    Raises:
        UsageError: height or width is dynamic, and the input isn't (C, H, W).
    """
    if not {"height", "width"} & set(dynamic):
        return []
    if len(own_shape) != IMAGE_RANK:
        raise UsageError("height and width can be dynamic in a (C, H, W) input only", hint="Use --dynamic batch.")
    channels, height, width = own_shape
    shapes = [
        (
            channels,
            _scaled(height, factor_h) if "height" in dynamic else height,
            _scaled(width, factor_w) if "width" in dynamic else width,
        )
        for factor_h, factor_w in SIZE_FACTORS
    ]
    return [shape for shape in dict.fromkeys(shapes) if shape != own_shape]


def _scaled(size: int, factor: float) -> int:
    multiple = SIZE_MULTIPLE if size >= 2 * SIZE_MULTIPLE else 1
    return math.ceil(size * factor / multiple) * multiple if factor > 1 else size
