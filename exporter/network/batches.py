"""The validation batches.

There is one pool for each size of the inputs. Batches of several N are drawn from it in different orders, so one
float64 reference of each image serves all batches. A network with several inputs has one array of each for an image.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from attn_export.exporter.artifacts import Input, Shapes
from attn_export.exporter.network.axes import OF_IMAGES
from attn_export.exporter.network.images import IMAGE_RANK, KINDS, POOL, REAL, SEED, SMALL_POOL
from attn_export.exporter.network.values import drawn, with_range
from attn_export.exporter.records.arrays import Array, Arrays

# Runtimes take other paths for a batch of one than for larger ones; files are often traced with one of 1, 2 or 4.
BATCHES = (1, 2, 5)
# For dynamic height and width: not square, and not below the network's size, which may be its minimum.
SIZE_FACTORS = ((1.25, 1.0), (1.0, 1.5))
SIZE_MULTIPLE = 32
# More of the user's images only take time.
MOST_REAL = 16


@dataclass(frozen=True)
class Batch:
    """A batch of images.

    Attributes:
        arrays: of each input, (N, ...).
        kinds: of each image.
        names: of each; equal names mean equal images. Empty: all images differ.
    """

    arrays: Arrays
    kinds: tuple[str, ...]
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.kinds)

    @property
    def shapes(self) -> Shapes:
        """Of each input, (N, ...)."""
        return tuple(array.shape for array in self.arrays.values())

    @property
    def sizes(self) -> Shapes:
        """The shapes without N."""
        return tuple(array.shape[1:] for array in self.arrays.values())

    @property
    def rows(self) -> Iterator[Arrays]:
        """Each image as a batch of one."""
        return (rows_of(self.arrays, [i]) for i in range(len(self)))


def rows_of(arrays: Arrays, rows: Sequence[int]) -> Arrays:
    """Some of the images."""
    return {name: array[list(rows)] for name, array in arrays.items()}


def repeated(arrays: Arrays, count: int) -> Arrays:
    """Each image ``count`` times."""
    return {name: np.repeat(array, count, axis=0) for name, array in arrays.items()}


def stacked(several: Sequence[Arrays]) -> Arrays:
    """Several batches as one."""
    return {name: np.concatenate([arrays[name] for arrays in several]) for name in several[0]}


def batches(inputs: Sequence[Input], judged: Sequence[Shapes] = (), real: Arrays | None = None) -> list[Batch]:
    """The validation batches: several N, and several sizes if they are dynamic.

    The largest N of each size, and the largest of an engine, cover the whole pool, others a part of it. Nominal images
    have mean 0 and deviation 1, like normalized inputs, or lie in the range of their input.

    Args:
        inputs: of the network; N is that of their shapes if it is static.
        judged: further shapes, from an engine's profile.
        real: the user's images, (N, ...) of each input in the network's size; at most `MOST_REAL` are used.
    """
    own = tuple(taken.shape[1:] for taken in inputs)
    static = not any(axis.index == 0 for axis in inputs[0].axes)
    counts = (inputs[0].shape[0],) if static else BATCHES
    shapes = [(n, own) for n in counts] + [(counts[:2][-1], sizes) for sizes in _other_sizes(inputs)]
    asked = [(several[0][0], tuple(shape[1:] for shape in several)) for several in judged]
    by_size: dict[Shapes, list[int]] = {}
    for n, sizes in dict.fromkeys(shapes + asked):
        by_size.setdefault(sizes, []).append(n)
    found: list[Batch] = []
    for sizes, several in by_size.items():
        pool = _pool(inputs, sizes, POOL, real) if sizes == own else _pool(inputs, sizes, SMALL_POOL, None)
        largest = max((n for n, size in asked if size == sizes), default=0)
        found += _drawn(pool, sorted(several), {max(several), largest})
    return found


def nominal_batches(inputs: Sequence[Input], batch: int, count: int) -> list[Batch]:
    """At least ``count`` nominal images in batches of one size."""
    number = -(-count // batch) * batch
    kinds = tuple(list(KINDS)[i % len(KINDS)] for i in range(number))
    pool = _pool(inputs, tuple(taken.shape[1:] for taken in inputs), kinds, None)
    named = Batch(pool.arrays, pool.kinds, tuple(f"ordinary {name}" for name in pool.names))
    return [_select(named, range(i, i + batch)) for i in range(0, number, batch)]


def feeds_for(inputs: Sequence[Input]) -> list[dict[str, Array]]:
    """Inputs for a graph with known shapes only: one run with natural images, one with noise."""
    inputs = [with_range(taken) for taken in inputs]
    draw = np.random.default_rng(SEED)
    return [
        {
            taken.name: np.stack([drawn(kind, taken, taken.shape[1:], draw) for _ in range(taken.shape[0])])
            for taken in inputs
        }
        for kind in KINDS
    ]


def _pool(inputs: Sequence[Input], sizes: Shapes, kinds: Sequence[str], real: Arrays | None) -> Batch:
    """One image of each kind, and the user's images."""
    draw = np.random.default_rng([SEED, *(size for shape in sizes for size in shape)])
    images: list[Arrays] = [
        {taken.name: drawn(kind, taken, size, draw)[None] for taken, size in zip(inputs, sizes, strict=True)}
        for kind in kinds
    ]
    if not any(len(size) == IMAGE_RANK for size in sizes):  # the spectrum is undefined
        kinds = ["noise" if kind == "natural" else kind for kind in kinds]
    pool = stacked(images)
    if real is not None:
        count = len(next(iter(real.values())))
        chosen = np.unique(np.linspace(0, count - 1, min(count, MOST_REAL)).astype(int))
        pool = stacked([rows_of(real, chosen.tolist()), pool])
        kinds = (*[REAL] * len(chosen), *kinds)
    sized = " ".join("x".join(map(str, size)) for size in sizes)
    return Batch(pool, tuple(kinds), tuple(f"{sized}/{i}" for i in range(len(kinds))))


def _drawn(pool: Batch, counts: Sequence[int], complete: Collection[int]) -> list[Batch]:
    """Batches of these ascending sizes; those in ``complete`` cover all images."""
    draw = np.random.default_rng(SEED)
    size, position, found = len(pool), 0, []
    for n in counts:
        if n in complete:
            # Fill up the last batch, unless its size is drawn too.
            filled = size if size % n in (0, *counts) else -(-size // n) * n
            rows = draw.permutation(np.arange(filled) % size)
            found += [_select(pool, rows[i : i + n]) for i in range(0, len(rows), n)]
        else:
            found.append(_select(pool, draw.permutation([(position + i) % size for i in range(n)])))
            position += n
    return found


def _select(pool: Batch, rows: Iterable[int]) -> Batch:
    chosen = [int(i) for i in rows]
    return Batch(
        rows_of(pool.arrays, chosen), tuple(pool.kinds[i] for i in chosen), tuple(pool.names[i] for i in chosen)
    )


def _other_sizes(inputs: Sequence[Input]) -> list[Shapes]:
    """Further sizes; none if only N is dynamic. Those of several inputs keep their ratio."""
    own = tuple(taken.shape[1:] for taken in inputs)
    found = [_scaled_by(inputs, factors) for factors in SIZE_FACTORS]
    return [sizes for sizes in dict.fromkeys(found) if sizes != own]


def _scaled_by(inputs: Sequence[Input], factors: tuple[float, float]) -> Shapes:
    def factor(taken: Input, i: int) -> float:
        return factors[1] if len(taken.shape) == len(OF_IMAGES) and i == len(OF_IMAGES) - 1 else factors[0]

    open_axes = [(place, axis.index) for place, taken in enumerate(inputs) for axis in taken.axes if axis.index]
    largest = {
        by: max(inputs[p].shape[i] for p, i in open_axes if factor(inputs[p], i) == by)
        for by in {factor(inputs[p], i) for p, i in open_axes}
    }
    ratio = {by: Fraction(_scaled(size, by), size) for by, size in largest.items()}
    sizes = [list(taken.shape) for taken in inputs]
    for place, i in open_axes:
        sizes[place][i] = math.ceil(sizes[place][i] * ratio[factor(inputs[place], i)])
    return tuple(tuple(size[1:]) for size in sizes)


def _scaled(size: int, factor: float) -> int:
    multiple = SIZE_MULTIPLE if size >= 2 * SIZE_MULTIPLE else 1
    return math.ceil(size * factor / multiple) * multiple if factor > 1 else size
