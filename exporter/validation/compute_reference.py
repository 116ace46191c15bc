"""What the network computes in float64, the reference outputs, and in an artifact's own precision, the baseline."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch.utils import _pytree as pytree

from attn_export.exporter.artifacts import LoadedModel, Precision
from attn_export.exporter.errors import InputError
from attn_export.exporter.network.arithmetic import in_double
from attn_export.exporter.network.images import NOMINAL, Batch
from attn_export.exporter.network.observation import evaluating
from attn_export.exporter.network.output_names import output_names
from attn_export.exporter.network.run import Result, joined, run
from attn_export.exporter.validation.baseline import PERTURBED_RUNS, BaselineError
from attn_export.exporter.validation.diagnosis import refuse_unstable
from attn_export.exporter.validation.matching import Returned
from attn_export.exporter.validation.metrics import DISCRETE
from attn_export.exporter.validation.reference import Reference, refuse_constant


def compute_reference(
    model: LoadedModel,
    batches: Sequence[Batch],
    advance: Callable[[], None] = lambda: None,
    precisions: Sequence[Precision] = (Precision.FP32,),
) -> Reference:
    """Run the network on every batch: in double precision each image alone, in other precisions the batch as it is.

    Running alone is what makes a batch's elements independent of each other in the reference: an artifact that mixes
    them disagrees.

    Args:
        model: its module is not changed.
        batches: (N, C, H, W) float32 each.
        advance: called after every batch.
        precisions: of the artifacts that will be judged.

    Raises:
        CaptureError: the network can't take one of the sizes, though it was captured with them open.
        InputError: the network's own results are not finite, don't depend on the image, or are too far from float64 to
            judge anything by.
    """
    exact: list[Result] = []
    known: dict[str, Result] = {}  # by the name of the image: it is in several batches
    baselines: dict[Precision, list[Result]] = {precision: [] for precision in precisions}
    with evaluating(model.module) as module:
        own = {precision: BaselineError(module, precision, batches) for precision in precisions}
        for batch in batches:
            alone = []
            with in_double():
                for name, image in zip(batch.names or [""] * len(batch.images), batch.images, strict=True):
                    result = known.get(name) or run(module, image[None].astype(np.float64))
                    if name:
                        known[name] = result
                    alone.append(result)
            exact.append(joined(alone))
            for precision, results in baselines.items():
                results.append(own[precision].of(batch))
            advance()
        idle = {i for results in baselines.values() for i in _idle_gates(exact, results)}
        exact = [result.without(idle) for result in exact]
        baselines = {kind: [result.without(idle) for result in results] for kind, results in baselines.items()}
        for results in (exact, *baselines.values()):
            for batch, result in zip(batches, results, strict=True):
                _refuse_no_numbers(model.name, batch, result)
        for precision, results in baselines.items():
            refuse_unstable(model.name, partial(run, module), batches, exact, results, precision)
    made = Reference(tuple(batches), tuple(exact), {p: tuple(results) for p, results in baselines.items()})
    refuse_constant(model.name, made)
    return made


def _idle_gates(exact: Sequence[Result], own: Sequence[Result]) -> set[int]:
    """Those that no image goes through, as the sigmoid of a weight: they don't grow with the batch."""
    return {
        i
        for alone, together in zip(exact, own, strict=True)
        for i in range(min(len(alone.gates), len(together.gates)))
        if together.gates[i].size != PERTURBED_RUNS * alone.gates[i].size
    }


def _refuse_no_numbers(name: str, batch: Batch, result: Result) -> None:
    """Ordinary images have to give numbers. Zeros may not, where something is divided by its own spread.

    Raises:
        InputError: they don't.
    """
    for array in (*result.outputs, *result.gates):
        count = len(batch.kinds)
        rows = np.isfinite(array).reshape(-1, count, array.size // len(array)).all((0, 2)) if array.size else []
        wrong = [kind for kind, finite in zip(batch.kinds, rows, strict=False) if not finite]
        if any(kind in NOMINAL for kind in wrong):
            raise InputError(
                f"{name} computes NaN or infinity for ordinary images",
                hint="Nothing can be proven about such a network. Was the right checkpoint exported?",
            )


def returned(model: LoadedModel) -> tuple[Returned, ...]:
    """What the network returns for one image, with the names that an export gives.

    Raises:
        CaptureError: it can't take its own size, or returns something that isn't a batch.
    """
    with evaluating(model.module) as module:
        image = torch.zeros(1, *model.input_shape)
        arrays = run(module, image.numpy()).outputs
        leaves, _ = pytree.tree_flatten_with_path(module(image))
    names = output_names([path for path, leaf in leaves if isinstance(leaf, torch.Tensor)])
    return tuple(
        Returned(name, array.shape[1:], array.dtype.kind in DISCRETE) for name, array in zip(names, arrays, strict=True)
    )
