"""The reference outputs in float64, and the perturbed runs in each precision for the baseline errors."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from attn_export.exporter.artifacts import LoadedModel, Precision
from attn_export.exporter.errors import InputError
from attn_export.exporter.network.arithmetic import in_double, in_float64
from attn_export.exporter.network.batches import Batch, repeated
from attn_export.exporter.network.call import call
from attn_export.exporter.network.images import NOMINAL
from attn_export.exporter.network.observation import evaluating
from attn_export.exporter.network.output_names import output_names
from attn_export.exporter.network.run import Result, joined, run
from attn_export.exporter.records.arrays import zeros_of
from attn_export.exporter.validation.baseline import PERTURBED_RUNS, BaselineRuns
from attn_export.exporter.validation.diagnosis import refuse_unstable
from attn_export.exporter.validation.matching import Returned
from attn_export.exporter.validation.metrics import DISCRETE
from attn_export.exporter.validation.reference import Reference, refuse_constant


def compute_reference(
    model: LoadedModel,
    batches: Sequence[Batch],
    advance: Callable[[], None] = lambda: None,
    precisions: Sequence[Precision] = (Precision.FP32,),
    least: int = 1,
) -> Reference:
    """Run the network on every batch: in float64 each image alone, in other precisions as a batch.

    An artifact that mixes the images of a batch disagrees with images that ran alone. ``least`` is the smallest N that
    the network runs at: more than 1 where it is exported for one batch only. An image then runs alone as N copies of
    itself.

    Raises:
        CaptureError: the network can't take one of the sizes.
        InputError: the network's results are not finite, constant, or too far from float64 for a baseline.
    """
    exact: list[Result] = []
    known: dict[str, Result] = {}  # by name of the image, which is in several batches
    baselines: dict[Precision, list[Result]] = {precision: [] for precision in precisions}
    with evaluating(model.module) as module:
        runs = {precision: BaselineRuns(module, precision, batches, least) for precision in precisions}
        for batch in batches:
            exact.append(_each_alone(module, batch, known, least))
            for precision, results in baselines.items():
                results.append(runs[precision].of(batch))
            advance()
        unused = {i for results in baselines.values() for i in _gates_without_images(exact, results)}
        exact = [result.without(unused) for result in exact]
        baselines = {kind: [result.without(unused) for result in results] for kind, results in baselines.items()}
        for results in (exact, *baselines.values()):
            for batch, result in zip(batches, results, strict=True):
                _refuse_not_finite(model.name, batch, result)
        for precision, results in baselines.items():
            refuse_unstable(model.name, partial(run, module), batches, exact, results, precision)
    reference = Reference(tuple(batches), tuple(exact), {p: tuple(results) for p, results in baselines.items()})
    refuse_constant(model.name, reference)
    return reference


def _each_alone(module: nn.Module, batch: Batch, known: dict[str, Result], least: int) -> Result:
    """The float64 results of a batch; ``known`` receives the results of named images."""
    results = []
    with in_double():
        for name, image in zip(batch.names or [""] * len(batch), batch.rows, strict=True):
            result = known.get(name) or run(module, repeated(in_float64(image), least)).rows(0, 1)
            if name:
                known[name] = result
            results.append(result)
    return joined(results)


def _gates_without_images(exact: Sequence[Result], baseline: Sequence[Result]) -> set[int]:
    """Sigmoids of weights only: their size doesn't grow with the batch."""
    return {
        i
        for alone, together in zip(exact, baseline, strict=True)
        for i in range(min(len(alone.gates), len(together.gates)))
        if together.gates[i].size != PERTURBED_RUNS * alone.gates[i].size
    }


def _refuse_not_finite(name: str, batch: Batch, result: Result) -> None:
    """Refuse NaN and infinity for nominal images; zeros may give NaN, where a layer divides by their spread."""
    for array in (*result.outputs, *result.gates):
        count = len(batch.kinds)
        finite = np.isfinite(array).reshape(-1, count, array.size // len(array)).all((0, 2)) if array.size else []
        if any(not ok and kind in NOMINAL for kind, ok in zip(batch.kinds, finite, strict=False)):
            raise InputError(
                f"{name} computes NaN or infinity for nominal images",
                hint="Nothing can be proven about such a network. Is it the right checkpoint?",
            )


def returned(model: LoadedModel, batch: int = 1) -> tuple[Returned, ...]:
    """The network's outputs for N images, with their names in an export.

    Raises:
        CaptureError: the network can't take its own input size, or an output has no batch axis.
    """
    with evaluating(model.module) as module:
        image = {taken.name: zeros_of(taken.with_batch(batch)) for taken in model.inputs}
        arrays = run(module, image).outputs
        leaves, _ = pytree.tree_flatten_with_path(call(module, image))
    names = output_names([path for path, leaf in leaves if isinstance(leaf, torch.Tensor)])
    return tuple(
        Returned(name, array.shape[1:], array.dtype.kind in DISCRETE) for name, array in zip(names, arrays, strict=True)
    )
