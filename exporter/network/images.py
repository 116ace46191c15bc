"""The images that artifacts are judged on, made from a seed so that every run sees the same.

There is one pool of images for each size. Batches of several sizes are drawn from it, in other orders, so that what the
network computes for an image, alone and in double precision, serves every batch that the image is in.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attn_export.exporter.records.arrays import Array

Image = np.ndarray[Any, np.dtype[np.float32]]  # (C, H, W)
Images = np.ndarray[Any, np.dtype[np.float32]]  # (N, C, H, W)
Kind = Callable[[tuple[int, int, int], np.random.Generator], Image]

IMAGE_RANK = 3
SEED = 20180701  # the month in which SE and CBAM were both out
# One, two and one larger: a batch of one takes other paths through a runtime than a batch of many.
BATCHES = (1, 2, 4)
# Where height and width are open: not square, and no smaller than the network's own, which might be its smallest.
SIZE_FACTORS = ((1.25, 1.0), (1.0, 1.5))
SIZE_MULTIPLE = 32
# A white pixel and a black one after the usual normalization of photographs (mean 0.45, deviation 0.22).
WHITE, BLACK = 2.5, -2.05
LARGE, TINY = 8.0, 1e-3
# More images of the user's add time, and no insight.
MOST_REAL = 16


@dataclass(frozen=True)
class Batch:
    """Images that run together.

    Attributes:
        images: (N, C, H, W).
        kinds: of each.
        names: of each; the same name is the same image. None: every image is one of its own.
    """

    images: Images
    kinds: tuple[str, ...]
    names: tuple[str, ...] = ()


def natural(shape: tuple[int, int, int], draw: np.random.Generator) -> Image:
    """Noise whose spectrum falls with the frequency, as that of photographs does.

    Field: "Relations between the statistics of natural images and the response properties of cortical cells", 1987.
    """
    channels, height, width = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1.0 / max(height, width)
    spectrum = np.fft.rfft2(draw.standard_normal((channels, height, width))) / frequency
    image = np.fft.irfft2(spectrum, s=(height, width))
    image -= image.mean()
    return (image / (image.std() + 1e-12)).astype(np.float32)


def noise(shape: tuple[int, ...], draw: np.random.Generator) -> Image:
    """White noise."""
    return draw.standard_normal(shape, dtype=np.float32)


def large(shape: tuple[int, int, int], draw: np.random.Generator) -> Image:
    """Eight times what a normalized image is, as one that was never normalized."""
    return noise(shape, draw) * np.float32(LARGE)


def tiny(shape: tuple[int, int, int], draw: np.random.Generator) -> Image:
    """Almost no contrast: what is divided by a spread, or is close to float16's smallest, shows here."""
    return noise(shape, draw) * np.float32(TINY)


def zeros(shape: tuple[int, int, int], draw: np.random.Generator) -> Image:  # noqa: ARG001 (one form for all)
    """Nothing: only biases are at work."""
    return np.zeros(shape, np.float32)


def hot(shape: tuple[int, int, int], draw: np.random.Generator) -> Image:
    """A single white pixel on nothing, away from the middle: it shows a map that is shifted, flipped or transposed."""
    image = np.zeros(shape, np.float32)
    place: tuple[Any, ...] = (slice(None), *(int(draw.integers(0, max(1, size // 2))) for size in shape[1:]))
    image[place] = WHITE
    return image


def saturated(shape: tuple[int, int, int], draw: np.random.Generator) -> Image:
    """Black and white without anything between."""
    return np.where(noise(shape, draw) > 0, np.float32(WHITE), np.float32(BLACK))


# What networks are made for; errors are pooled over all images of a kind.
KINDS: dict[str, Kind] = {"natural": natural, "noise": noise}
REAL = "real"
NOMINAL = frozenset({*KINDS, REAL})
# What they meet now and then. There is one of each, whose own error may be small by luck; see `metrics` and `verdict`.
STRESS: dict[str, Kind] = {"large": large, "tiny": tiny, "zeros": zeros, "hot": hot, "saturated": saturated}
# Those that leave a map nearly the same everywhere; see `arithmetic.Perturbation`.
FAINT = frozenset({"tiny", "zeros", "hot"})
# Where maps may be the same everywhere; see `verdict`. What the user's images show isn't known.
FLAT = frozenset({*STRESS, REAL})
POOL = ("natural", "natural", "noise", "noise", *STRESS)
# For the sizes besides the network's own.
SMALL_POOL = ("natural", "noise")


def batches(
    own_shape: tuple[int, ...],
    dynamic: Collection[str],
    batch: int,
    judged: Sequence[tuple[int, ...]] = (),
    real: Images | None = None,
) -> list[Batch]:
    """Every batch that an artifact is judged on: several batch sizes, and several image sizes where they are open.

    The largest batch of each image size goes through the whole pool, and the largest that an engine takes; others
    through a part of it. Ordinary images have mean 0 and spread 1, as inputs that went through a normalization have.

    Args:
        own_shape: the network's own (C, H, W).
        dynamic: which of "batch", "height" and "width" are open.
        batch: the N where it isn't open.
        judged: more shapes (N, C, H, W), those that an engine is tuned for.
        real: images of the user's, (N, C, H, W) of the network's own size; at most `MOST_REAL` of them are taken.
    """
    sizes = BATCHES if "batch" in dynamic else (batch,)
    shapes = [(n, own_shape) for n in sizes] + [(sizes[:2][-1], shape) for shape in other_shapes(own_shape, dynamic)]
    shapes += [(n, tuple(shape)) for n, *shape in judged]
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for n, shape in dict.fromkeys(shapes):
        by_shape.setdefault(shape, []).append(n)
    made: list[Batch] = []
    for shape, counts in by_shape.items():
        pool = _pool(shape, POOL, real) if shape == own_shape else _pool(shape, SMALL_POOL, None)
        largest = max((n for n, *taken in judged if tuple(taken) == shape), default=0)
        made += _drawn(pool, sorted(counts), {max(counts), largest})
    return made


def nominal_batches(own_shape: tuple[int, ...], batch: int, count: int) -> list[Batch]:
    """At least ``count`` ordinary images in batches of one size, for what is judged image by image.

    Args:
        own_shape: (C, H, W).
        batch: N of each.
        count: of images.
    """
    number = -(-count // batch) * batch
    kinds = tuple(list(KINDS)[i % len(KINDS)] for i in range(number))
    pool = _pool(own_shape, kinds, None)
    named = Batch(pool.images, pool.kinds, tuple(f"ordinary {name}" for name in pool.names))
    return [_taken(named, range(i, i + batch)) for i in range(0, number, batch)]


def _pool(shape: tuple[int, ...], kinds: Sequence[str], real: Images | None) -> Batch:
    """One image of each of these kinds, and the user's."""
    draw = np.random.default_rng([SEED, *shape])
    images = [_image(kind, shape, draw) for kind in kinds]
    if real is not None:
        chosen = np.unique(np.linspace(0, len(real) - 1, min(len(real), MOST_REAL)).astype(int))
        images = [*(np.asarray(real[i], np.float32) for i in chosen), *images]
        kinds = (*[REAL] * len(chosen), *kinds)
    if len(shape) != IMAGE_RANK:  # not an image: the spectrum of photographs has no meaning
        kinds = ["noise" if kind == "natural" else kind for kind in kinds]
    names = tuple(f"{'x'.join(map(str, shape))}/{i}" for i in range(len(images)))
    return Batch(np.stack(images), tuple(kinds), names)


def _drawn(pool: Batch, counts: Sequence[int], whole: Collection[int]) -> list[Batch]:
    """Batches of these sizes, ascending; those of sizes in ``whole`` hold every image, others some."""
    draw = np.random.default_rng(SEED)
    size, position, made = len(pool.kinds), 0, []
    for n in counts:
        if n in whole:
            # What is left at the end is filled up, unless it is a batch of a size that is taken too.
            filled = size if size % n in (0, *counts) else -(-size // n) * n
            rows = draw.permutation(np.arange(filled) % size)
            made += [_taken(pool, rows[i : i + n]) for i in range(0, len(rows), n)]
        else:
            made.append(_taken(pool, draw.permutation([(position + i) % size for i in range(n)])))
            position += n
    return made


def _taken(pool: Batch, rows: Iterable[int]) -> Batch:
    chosen = [int(i) for i in rows]
    return Batch(pool.images[chosen], tuple(pool.kinds[i] for i in chosen), tuple(pool.names[i] for i in chosen))


def feeds_for(shapes: Mapping[str, tuple[int, ...]]) -> list[dict[str, Array]]:
    """Inputs for a graph of which no more is known than their shapes: one run with natural images, one with noise.

    Args:
        shapes: name -> (N, C, H, W), or any other shape, which only gets noise.
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
    """The image shapes besides the network's own; none where height and width are fixed."""
    if not {"height", "width"} & set(dynamic):
        return []
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
