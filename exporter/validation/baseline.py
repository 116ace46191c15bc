"""What PyTorch itself makes of images in an artifact's precision, several times. Its error is the baseline.

One run is one draw, and may be right by luck: where a network magnifies one number above all others, as a gate with a
single hidden unit does, two runs' errors stand to each other as two normal numbers do, one time in twelve above 8. So
the network runs again with weights and pixels moved by a rounding, after which all others fall anew.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from attn_export.exporter.artifacts import Precision
from attn_export.exporter.network.arithmetic import Perturbation, rounded_to
from attn_export.exporter.network.images import FAINT, Batch
from attn_export.exporter.network.run import Result, joined, run
from attn_export.exporter.records.arrays import Array

# How often: once as it is, then moved. Calibrated, see docs/validation.md: more change little.
PERTURBED_RUNS = 4
TYPES: Mapping[Precision, torch.dtype] = {
    Precision.FP32: torch.float32,
    Precision.FP16: torch.float16,
    Precision.BF16: torch.bfloat16,
}
Made = TypeVar("Made")


class BaselineError:
    """The results of a network in one precision.

    Args:
        module: evaluating.
        precision: of the artifacts.
        batches: all whose results will be asked for.
    """

    def __init__(self, module: nn.Module, precision: Precision, batches: Sequence[Batch]) -> None:
        self._module, self._precision, self._batches = module, precision, batches
        self._perturbations = _perturbations(module, precision)
        self._faint_perturbations = _perturbations(module, precision, activations=True)
        self._moved: dict[str, tuple[Result, ...]] = {}

    def of(self, batch: Batch) -> Result:
        """Of a batch of N images `PERTURBED_RUNS` times N rows: as it is, then perturbed, in the order of the images.

        Moved, an image runs once, and serves every batch that it is in.

        Raises:
            CaptureError: as `network.run` says.
        """
        results = self._run(batch.images, [None])
        if not batch.names:
            return joined([*results, *self._run(batch.images, self._perturbations)])
        if batch.names[0] not in self._moved:
            self._move_all(batch.images.shape[1:])
        for draw in range(len(self._perturbations)):
            results += [self._moved[name][draw] for name in batch.names]
        return joined(results)

    def _move_all(self, shape: tuple[int, ...]) -> None:
        """Run all images of one shape (C, H, W), in batches as large as the largest: moving weights takes time."""
        batches = [batch for batch in self._batches if batch.names and batch.images.shape[1:] == shape]
        rows = [row for b in batches for row in zip(b.names, b.kinds, b.images, strict=True)]
        count = max(len(batch.images) for batch in batches)
        for faint, perturbations in ((False, self._perturbations), (True, self._faint_perturbations)):
            named = {name: image for name, kind, image in rows if (kind in FAINT) is faint}
            names = list(named)
            for start in range(0, len(names), count):
                taken = names[start : start + count]
                moved = self._run(np.stack([named[name] for name in taken]), perturbations)
                for row, name in enumerate(taken):
                    self._moved[name] = tuple(result.rows(row, row + 1) for result in moved)

    def _run(self, images: Array, perturbations: Sequence[Perturbation | None]) -> list[Result]:
        return _drawn(TYPES[self._precision], images, partial(run, self._module), perturbations)


def drawn(module: nn.Module, precision: Precision, images: Array, job: Callable[[Array], Made]) -> list[Made]:
    """What a job makes of images as they are, and with everything moved; `PERTURBED_RUNS` results.

    Args:
        module: that the job runs, evaluating.
        precision: in which it runs.
        images: (N, C, H, W) float32.
        job: is given them, moved.
    """
    return _drawn(TYPES[precision], images, job, [None, *_perturbations(module, precision)])


def _perturbations(module: nn.Module, precision: Precision, *, activations: bool = False) -> list[Perturbation]:
    return [Perturbation(module, TYPES[precision], draw, activations=activations) for draw in range(1, PERTURBED_RUNS)]


def _drawn(
    dtype: torch.dtype, images: Array, job: Callable[[Array], Made], perturbations: Sequence[Perturbation | None]
) -> list[Made]:
    found = []
    for perturbation in perturbations:
        with rounded_to(dtype, perturbation):
            found.append(job(perturbation.images(images) if perturbation else images))
    return found
