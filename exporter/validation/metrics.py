"""Relative errors of arrays, pooled over images, and arrays perturbed by one rounding.

The error of a tensor is its distance from the reference relative to the length of the reference, over all images of one
kind. The error of a single image can be small by chance. A stress image can make almost every value vanish; there the
length is at least a tenth of the nominal images' length.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from attn_export.exporter.network.batches import Batch
from attn_export.exporter.network.images import NOMINAL
from attn_export.exporter.records.arrays import Array

# numpy kinds of integers and booleans.
DISCRETE = "biu"
# Rounding decides on which side of a threshold a score falls: one element in so many, and one of a tenth of them.
STRAY_ELEMENTS = 10_000
# Smallest root mean square on stress images, relative to nominal images.
STRESS_LENGTH = 0.1


@dataclass
class PooledError:
    """Sums of squares, by kind of input."""

    difference: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    length: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    count: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    not_finite: set[str] = field(default_factory=set)

    def add(self, computed: Array, exact: Array, kinds: tuple[str, ...]) -> None:
        """Add a batch, without images whose reference is not finite, as that of zeros may be.

        Args:
            computed: first axis N, any float dtype; or a multiple of N, one run after the other.
            exact: reference, as many elements for each of the N, float64; of integers and booleans the differing
                elements count, not by how much they differ.
            kinds: N kinds of input.
        """
        count = len(kinds)
        if discrete := exact.dtype.kind in DISCRETE:
            computed = np.reshape(computed, (-1, *exact.shape)) != exact
            exact = np.zeros(exact.shape)
        exact = np.asarray(exact, np.float64).reshape(count, -1)
        computed = np.asarray(computed, np.float64).reshape(-1, *exact.shape)
        for i, kind in enumerate(kinds):
            if not np.isfinite(exact[i]).all():
                continue
            if not np.isfinite(computed[:, i]).all():
                self.not_finite.add(kind)
            self.difference[kind] += float(np.square(computed[:, i] - exact[i]).sum())
            self.length[kind] += (exact[i].size if discrete else float(np.square(exact[i]).sum())) * len(computed)
            self.count[kind] += exact[i].size * len(computed)

    def add_batches(self, computed: Sequence[Array], exact: Sequence[Array], batches: Sequence[Batch]) -> "PooledError":
        """`add` one array per batch; returns itself."""
        for batch, results, expected in zip(batches, computed, exact, strict=True):
            self.add(results, expected, batch.kinds)
        return self

    def stray(self) -> float:
        """The relative error of as many integers or booleans as may differ."""
        count = min((count for count in self.count.values() if count), default=1)
        few = -(-count // STRAY_ELEMENTS) if 10 * count >= STRAY_ELEMENTS else 0
        return float(np.sqrt(few / count))

    def relative(self, least: float = 0.0) -> dict[str, float]:
        """The relative error of each kind; infinite where a value is not finite.

        ``least`` is the smallest root mean square of the reference, absolute.
        """
        tiny = float(np.finfo(np.float64).tiny)
        squares = {kind: self.length[kind] / max(self.count[kind], 1) for kind in self.length}
        nominal = max((square for kind, square in squares.items() if kind in NOMINAL), default=0.0)
        errors = {}
        for kind in self.length:
            smallest = max(least**2, 0.0 if kind in NOMINAL else STRESS_LENGTH**2 * nominal)
            length = max(self.length[kind], self.count[kind] * smallest, tiny)
            errors[kind] = float("inf") if kind in self.not_finite else float(np.sqrt(self.difference[kind] / length))
        return errors


def difference(computed: Array, expected: Array, *, least: float = 0.0) -> float:
    """Relative, in the 2-norm; infinite where the shapes or the places of NaN and infinity differ.

    ``least`` is the smallest root mean square of the reference, absolute.
    """
    if computed.shape != expected.shape:
        return float("inf")
    if expected.dtype.kind not in "fiub":
        return 0.0 if np.array_equal(computed, expected) else float("inf")
    a, b = computed.astype(np.float64), expected.astype(np.float64)
    special = ~np.isfinite(b)
    if not np.array_equal(a[special], b[special], equal_nan=True):
        return float("inf")
    a, b = a[~special], b[~special]
    distance, length = float(np.linalg.norm(a - b)), max(float(np.linalg.norm(b)), least * float(np.sqrt(b.size)))
    return distance / length if length else (0.0 if distance == 0 else float("inf"))


def perturbed(array: Array, eps: float | None = None) -> Array:
    """Every number moved by one rounding of relative size ``eps``, by default the array type's; integers stay."""
    if array.dtype.kind != "f":
        return array
    signs = np.random.default_rng(1).integers(0, 2, array.shape) * 2 - 1
    return np.asarray(array * (1 + signs * float(eps or np.finfo(array.dtype).eps)), dtype=array.dtype)
