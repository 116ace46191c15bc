"""The images that artifacts are judged on, made from a seed so that every run sees the same."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Image = np.ndarray[Any, np.dtype[np.float32]]  # (C, H, W)

IMAGE_RANK = 3
SEED = 20180701  # the month in which SE and CBAM were both out
# One, two and one larger: a batch of one takes other paths through a runtime than a batch of many.
BATCHES = (1, 2, 4)
# Where height and width are open: not square, and no smaller than the network's own, which might be its smallest.
SIZE_FACTORS = ((1.25, 1.0), (1.0, 1.5))
SIZE_MULTIPLE = 32


@dataclass(frozen=True)
class Batch:
    """Images that run together; ``kinds`` names the kind of each."""

    images: np.ndarray[Any, np.dtype[np.float32]]  # (N, C, H, W)
    kinds: tuple[str, ...]


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


def noise(shape: tuple[int, int, int], draw: np.random.Generator) -> Image:
    """White noise."""
    return draw.standard_normal(shape, dtype=np.float32)


KINDS: dict[str, Callable[[tuple[int, int, int], np.random.Generator], Image]] = {"natural": natural, "noise": noise}


def batches(
    own_shape: tuple[int, ...], dynamic: Collection[str], batch: int, judged: Sequence[tuple[int, ...]] = ()
) -> list[Batch]:
    """Every batch that an artifact is judged on: several batch sizes, and several image sizes where they are open.

    The images have mean 0 and spread 1, as inputs that went through a normalization have.

    Args:
        own_shape: the network's own (C, H, W).
        dynamic: which of "batch", "height" and "width" are open.
        batch: the N where it isn't open.
        judged: more shapes (N, C, H, W), those that an engine is tuned for; the images before them stay the same.
    """
    draw = np.random.default_rng(SEED)
    sizes = BATCHES if "batch" in dynamic else (batch,) * max(1, 3 - batch)
    shapes = [(n, own_shape) for n in sizes] + [(sizes[:2][-1], shape) for shape in other_shapes(own_shape, dynamic)]
    shapes += [(n, shape) for n, *shape in judged if (n, tuple(shape)) not in shapes]  # type: ignore[misc]
    return [_batch(n, shape, draw) for n, shape in shapes]


def feeds_for(shapes: Mapping[str, tuple[int, ...]]) -> list[dict[str, Any]]:
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
    if len(shape) == IMAGE_RANK:
        return KINDS[kind](shape, draw)  # type: ignore[arg-type]
    return draw.standard_normal(shape, dtype=np.float32)


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


def _batch(count: int, shape: tuple[int, ...], draw: np.random.Generator) -> Batch:
    kinds = tuple(list(KINDS)[int(i)] for i in draw.permutation(np.arange(count) % len(KINDS)))
    if len(shape) != IMAGE_RANK:  # not an image: only noise has a meaning
        kinds = ("noise",) * count
    images = np.stack([KINDS[kind](shape, draw) for kind in kinds])  # type: ignore[arg-type]
    return Batch(images, kinds)
