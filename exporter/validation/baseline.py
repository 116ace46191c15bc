"""The baseline error: PyTorch's own error in an artifact's precision, estimated by perturbed runs.

The error of one run may be small by chance. Where a network magnifies one number above all others, as a gate with a
single hidden unit does, the errors of two runs are like two normal numbers, whose ratio exceeds 8 one time in twelve.
So the network runs again with weights and pixels moved by one rounding, which changes all other roundings.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import nn

from attn_export.exporter.artifacts import Precision, Shapes
from attn_export.exporter.network.arithmetic import Perturbation, rounded_to
from attn_export.exporter.network.batches import Batch, stacked
from attn_export.exporter.network.images import FAINT
from attn_export.exporter.network.run import Result, joined, run
from attn_export.exporter.records.arrays import Arrays

# The first is unperturbed. Calibrated, see docs/validation.md: more change little.
PERTURBED_RUNS = 4
TYPES: Mapping[Precision, torch.dtype] = {
    Precision.FP32: torch.float32,
    Precision.FP16: torch.float16,
    Precision.BF16: torch.bfloat16,
}
T = TypeVar("T")


class BaselineRuns:
    """The results of a network in one precision.

    ``least`` is the smallest N that the network runs at.
    """

    def __init__(self, module: nn.Module, precision: Precision, batches: Sequence[Batch], least: int = 1) -> None:
        self._least = least
        self._module, self._precision, self._batches = module, precision, batches
        self._perturbations = _perturbations(module, precision)
        self._faint_perturbations = _perturbations(module, precision, activations=True)
        self._perturbed: dict[str, tuple[Result, ...]] = {}  # by name of the image

    def of(self, batch: Batch) -> Result:
        """`PERTURBED_RUNS` times N rows for a batch of N images: unperturbed, then each perturbed run.

        The perturbed results of an image serve every batch with that image.

        Raises:
            CaptureError: see `network.run`.
        """
        results = self._run(batch.arrays, [None])
        if not batch.names:
            return joined([*results, *self._run(batch.arrays, self._perturbations)])
        if batch.names[0] not in self._perturbed:
            self._run_perturbed(batch.sizes)
        for i in range(len(self._perturbations)):
            results += [self._perturbed[name][i] for name in batch.names]
        return joined(results)

    def _run_perturbed(self, sizes: Shapes) -> None:
        """Run all images of one size, in batches of the largest N: perturbing weights takes time."""
        batches = [batch for batch in self._batches if batch.names and batch.sizes == sizes]
        rows = [row for b in batches for row in zip(b.names, b.kinds, b.rows, strict=True)]
        count = max(map(len, batches))
        for faint, perturbations in ((False, self._perturbations), (True, self._faint_perturbations)):
            by_name = {name: image for name, kind, image in rows if (kind in FAINT) is faint}
            names = list(by_name)
            for start in range(0, len(names), count):
                chosen = names[start : start + count]
                filled = [*chosen, *[chosen[-1]] * (self._least - len(chosen))]
                results = self._run(stacked([by_name[name] for name in filled]), perturbations)
                for row, name in enumerate(chosen):
                    self._perturbed[name] = tuple(result.rows(row, row + 1) for result in results)

    def _run(self, arrays: Arrays, perturbations: Sequence[Perturbation | None]) -> list[Result]:
        return _runs(TYPES[self._precision], arrays, partial(run, self._module), perturbations)


def perturbed_runs(module: nn.Module, precision: Precision, arrays: Arrays, job: Callable[[Arrays], T]) -> list[T]:
    """The `PERTURBED_RUNS` results of a job, the first unperturbed.

    The job is called with the inputs, perturbed.
    """
    return _runs(TYPES[precision], arrays, job, [None, *_perturbations(module, precision)])


def _perturbations(module: nn.Module, precision: Precision, *, activations: bool = False) -> list[Perturbation]:
    return [Perturbation(module, TYPES[precision], seed, activations=activations) for seed in range(1, PERTURBED_RUNS)]


def _runs(
    dtype: torch.dtype, arrays: Arrays, job: Callable[[Arrays], T], perturbations: Sequence[Perturbation | None]
) -> list[T]:
    results = []
    for perturbation in perturbations:
        with rounded_to(dtype, perturbation):
            results.append(job(perturbation.inputs(arrays) if perturbation else arrays))
    return results
