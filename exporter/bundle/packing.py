"""Selection of the golden inputs, and the batches in which they run."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from attn_export.exporter.bundle.golden import Group
from attn_export.exporter.network.images import SEED
from attn_export.exporter.records.arrays import Arrays
from attn_export.exporter.records.engine import Profile

MOST_BYTES = 6 * 2**20  # of all golden inputs and outputs; white noise doesn't compress
MIN_IMAGES = 2  # of each size


@dataclass(frozen=True)
class Loose:
    """Candidates of one size: (K, ...) of each input, their K kinds, and (K, ...) of each output."""

    arrays: Arrays
    kinds: tuple[str, ...]
    expected: Arrays


def packed(loose: Loose, profile: Profile, most_bytes: int) -> Group:
    """As many images as fit, of every kind in turn, in batches of the profile's min, opt and max N."""
    each = sum(array.nbytes for array in (*loose.arrays.values(), *loose.expected.values())) // len(loose.kinds)
    images = min(len(loose.kinds), max(MIN_IMAGES, most_bytes // max(each, 1)))
    chosen = _in_turn(loose.kinds)[:images]
    shapes = profile[next(iter(loose.arrays))]
    *smaller, largest = sorted({shape[0] for shape in (shapes.min, shapes.opt, shapes.max)})
    rows = _rows(-(-images // largest) * largest, images)  # batches of the largest N hold every image
    return Group(
        arrays={name: np.ascontiguousarray(array[chosen]) for name, array in loose.arrays.items()},
        kinds=tuple(loose.kinds[i] for i in chosen),
        batches=(
            *(_rows(n, images) for n in smaller),
            *(rows[i : i + largest] for i in range(0, len(rows), largest)),
        ),
        expected={output: np.ascontiguousarray(array[chosen]) for output, array in loose.expected.items()},
    )


def _in_turn(kinds: Sequence[str]) -> list[int]:
    """Indices of the first image of each kind, then of the second of each, and so on."""
    turns: dict[str, count[int]] = defaultdict(count)
    return [i for _, i in sorted((next(turns[kind]), i) for i, kind in enumerate(kinds))]


def _rows(n: int, images: int) -> tuple[int, ...]:
    """Image indices of a batch: every image before any is repeated, and each repetition in another order."""
    draw = np.random.default_rng(SEED)
    rows = list(range(images))
    while len(rows) < n:
        rows += [int(i) for i in draw.permutation(images)]
    return tuple(rows[:n])
