"""The reference outputs: the network in float64, image by image."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from attn_export.exporter.artifacts import Precision, Shapes
from attn_export.exporter.errors import InputError
from attn_export.exporter.network.batches import Batch
from attn_export.exporter.network.images import NOMINAL
from attn_export.exporter.network.run import Result
from attn_export.exporter.records.arrays import Array

# Outputs within this relative difference are equal in float32.
SAME = 8 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Reference:
    """PyTorch's results for every batch.

    Attributes:
        exact: in float64, one per batch.
        baselines: perturbed runs in each precision, likewise; see `baseline`.
    """

    batches: tuple[Batch, ...]
    exact: tuple[Result, ...]
    baselines: Mapping[Precision, tuple[Result, ...]]

    def limited_to(self, takes: Callable[[Shapes], bool]) -> "Reference":
        """Only batches whose shapes an artifact takes."""
        return self._only([i for i, batch in enumerate(self.batches) if takes(batch.shapes)])

    def for_batches(self, batches: Sequence[Batch]) -> "Reference":
        """Only these batches, of images that have names."""
        place = {batch.names: i for i, batch in enumerate(self.batches)}
        return self._only([place[batch.names] for batch in batches])

    def _only(self, kept: Sequence[int]) -> "Reference":
        return Reference(
            tuple(self.batches[i] for i in kept),
            tuple(self.exact[i] for i in kept),
            {precision: tuple(results[i] for i in kept) for precision, results in self.baselines.items()},
        )


def refuse_constant(name: str, reference: Reference) -> None:
    """Refuse a network with constant outputs: every artifact with the same constant agrees with it.

    Raises:
        InputError: all outputs are constant.
    """
    if len(constant_outputs(reference)) == len(reference.exact[0].outputs):
        raise InputError(
            f"{name} returns the same for all images, so nothing can be proven about it",
            hint="Is it trained, and is this the right checkpoint? Its last layer's weights may all be zero.",
        )


def constant_outputs(reference: Reference) -> list[int]:
    """Indices of outputs that are the same for all nominal images of a size: no error can be seen in them."""
    return [
        i for i in range(len(reference.exact[0].outputs)) if all(all_equal(rows) for rows in _by_size(reference, i))
    ]


def _by_size(reference: Reference, output: int) -> list[list[Array]]:
    sizes: dict[Shapes, list[Array]] = {}
    for batch, exact in zip(reference.batches, reference.exact, strict=True):
        rows = [row for row, kind in enumerate(batch.kinds) if kind in NOMINAL]
        sizes.setdefault(batch.sizes, []).extend(exact.outputs[output][row] for row in rows)
    return list(sizes.values())


def all_equal(rows: Sequence[Array]) -> bool:
    """Whether the outputs of all images are equal in float32."""
    rows = [np.asarray(row, np.float64) for row in rows]
    for row in rows[1:]:
        size = max(float(np.abs(rows[0]).max(initial=0.0)), float(np.abs(row).max(initial=0.0)))
        if row.shape != rows[0].shape or not float(np.abs(row - rows[0]).max(initial=0.0)) <= SAME * size:
            return False
    return True
