"""Errors, pooled.

The error of a tensor is its distance from the oracle's, relative to the oracle's length, over all samples of one kind
of input together. One sample's own error is no measure: it is small by luck now and then. An extreme image may make
almost nothing of everything, where a length is no measure either: it is taken for a part of the ordinary images' at
least.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from attn_export.exporter.network.images import NOMINAL
from attn_export.exporter.records.arrays import Array

# Kinds of numpy's types whose values are no measures.
DISCRETE = "biu"
# A score that rounding decides may fall on either side of a threshold: one element in so many, and one of a tenth of
# them.
STRAY_ELEMENTS = 10_000
# Of the ordinary images' root mean square, what that of an extreme one is taken for at least.
FAINTEST = 0.1


@dataclass
class PooledError:
    """Sums of squares, by kind of input."""

    difference: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    length: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    count: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    not_finite: set[str] = field(default_factory=set)

    def add(self, computed: Array, exact: Array, kinds: tuple[str, ...]) -> None:
        """Add a batch. Images for which the oracle itself gives no numbers, as zeros may, are left out.

        Args:
            computed: first axis N, any float dtype; or several times N, of runs one after the other.
            exact: of as many elements for each of the N, double precision; of integers or booleans the elements that
                differ count, and not by how much: a class index is no measure.
            kinds: N names.
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

    def stray(self) -> float:
        """The relative error of as many elements as may stray where these are integers or booleans."""
        count = min((count for count in self.count.values() if count), default=1)
        few = -(-count // STRAY_ELEMENTS) if 10 * count >= STRAY_ELEMENTS else 0
        return float(np.sqrt(few / count))

    def add_all(self, other: "PooledError") -> None:
        """Add what another one has pooled."""
        for kind in other.length:
            self.difference[kind] += other.difference[kind]
            self.length[kind] += other.length[kind]
            self.count[kind] += other.count[kind]
        self.not_finite |= other.not_finite

    def relative(self, least: float = 0.0) -> dict[str, float]:
        """The relative error of each kind; infinite where something isn't a number.

        Args:
            least: what the oracle's root mean square is taken for where it is smaller.
        """
        tiny = float(np.finfo(np.float64).tiny)
        usual = max(
            (self.length[kind] / max(self.count[kind], 1) for kind in self.length if kind in NOMINAL), default=0.0
        )
        lengths = {}
        for kind in self.length:
            smallest = max(least**2, 0.0 if kind in NOMINAL else FAINTEST**2 * usual)
            lengths[kind] = max(self.length[kind], self.count[kind] * smallest, tiny)
        return {
            kind: float("inf") if kind in self.not_finite else float(np.sqrt(self.difference[kind] / length))
            for kind, length in lengths.items()
        }
