"""Which images a bundle carries, and in which batches they run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from attn_export.exporter.bundle.golden import Group
from attn_export.exporter.network.images import SEED
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.engine import Range

# Of one sample: images with what is expected of them; white noise doesn't compress. There are at least two of a size.
MOST_BYTES = 6 * 2**20
FEWEST_IMAGES = 2


@dataclass(frozen=True)
class Loose:
    """Images of one size that aren't packed yet: (K, C, H, W), K kinds, and (K, …) of each output."""

    images: Array
    kinds: tuple[str, ...]
    expected: Mapping[str, Array]


def packed(loose: Loose, taken: Range, most_bytes: int) -> Group:
    """As many images as there is room for, of every kind in turns, in the batches that the engine takes."""
    each = (loose.images.nbytes + sum(array.nbytes for array in loose.expected.values())) // len(loose.images)
    count = min(len(loose.images), max(FEWEST_IMAGES, most_bytes // max(each, 1)))
    chosen = _in_turns(loose.kinds)[:count]
    *smaller, most = sorted({size[0] for size in (taken.min, taken.opt, taken.max)})
    return Group(
        images=np.ascontiguousarray(loose.images[chosen], np.float32),
        kinds=tuple(loose.kinds[i] for i in chosen),
        batches=(*(_rows(n, count) for n in smaller), *_covering(most, count)),
        expected={name: np.ascontiguousarray(array[chosen]) for name, array in loose.expected.items()},
    )


def _in_turns(kinds: Sequence[str]) -> list[int]:
    """Places of the first of each kind, then of the second of each, and so on."""
    nth: dict[str, int] = {}
    turns = []
    for i, kind in enumerate(kinds):
        nth[kind] = nth.get(kind, -1) + 1
        turns.append((nth[kind], i))
    return [i for _, i in sorted(turns)]


def _covering(n: int, count: int) -> list[tuple[int, ...]]:
    """Batches of ``n`` that hold every image; what is left of the last is filled up from the first."""
    rows = _rows(-(-count // n) * n, count)
    return [rows[i : i + n] for i in range(0, len(rows), n)]


def _rows(n: int, count: int) -> tuple[int, ...]:
    """The images of a batch of ``n``: all of them before any comes again, then in another order each time."""
    draw = np.random.default_rng(SEED)
    rows = list(range(count))
    while len(rows) < n:
        rows += [int(i) for i in draw.permutation(count)]
    return tuple(rows[:n])
