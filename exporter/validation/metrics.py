"""Errors, pooled.

The error of a tensor is its distance from the oracle's, relative to the oracle's length, over all samples of one kind
of input together. One sample's own error is no measure: it is small by luck now and then.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from attn_export.exporter.runtimes.base import Array


@dataclass
class PooledError:
    """Sums of squares, by kind of input."""

    difference: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    length: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    count: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    finite: bool = True

    def add(self, computed: Array, exact: Array, kinds: tuple[str, ...]) -> None:
        """Add a batch.

        Args:
            computed: first axis N, any float dtype.
            exact: of as many elements for each of the N, double precision.
            kinds: N names.
        """
        count = len(kinds)
        computed = np.asarray(computed, np.float64).reshape(count, -1)
        exact = np.asarray(exact, np.float64).reshape(count, -1)
        self.finite = self.finite and bool(np.isfinite(computed).all())
        for i, kind in enumerate(kinds):
            self.difference[kind] += float(np.square(computed[i] - exact[i]).sum())
            self.length[kind] += float(np.square(exact[i]).sum())
            self.count[kind] += exact[i].size

    def relative(self, least: float = 0.0) -> dict[str, float]:
        """The relative error of each kind; infinite where something isn't a number.

        Args:
            least: what the oracle's root mean square is taken for where it is smaller.
        """
        if not self.finite:
            return dict.fromkeys(self.length, float("inf"))
        tiny = float(np.finfo(np.float64).tiny)
        lengths = {kind: max(self.length[kind], self.count[kind] * least**2, tiny) for kind in self.length}
        return {kind: float(np.sqrt(self.difference[kind] / length)) for kind, length in lengths.items()}
