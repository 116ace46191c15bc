"""Why a network is no reference, and what is wrong with an artifact that disagrees, in words."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from attn_export.exporter.artifacts import Precision
from attn_export.exporter.errors import AttnExportError, InputError
from attn_export.exporter.network.batches import Batch, repeated
from attn_export.exporter.network.images import NOMINAL
from attn_export.exporter.records.arrays import Array, Arrays
from attn_export.exporter.records.policies import POLICIES
from attn_export.exporter.runtimes.base import Runtime
from attn_export.exporter.validation.metrics import PooledError, difference
from attn_export.exporter.validation.reference import all_equal, constant_outputs

if TYPE_CHECKING:
    from attn_export.exporter.network.run import Result
    from attn_export.exporter.validation.reference import Reference

Run = Callable[[Arrays], "Result"]

# A relative error this large comes neither from rounding nor from a single layer.
ANOTHER_NETWORK = 0.1
# Relative difference between an image's outputs in two batches.
BATCH_TOLERANCE = 1e-3


def refuse_unstable(
    name: str,
    run: Run,
    batches: Sequence[Batch],
    exact: Sequence["Result"],
    baseline: Sequence["Result"],
    precision: Precision,
) -> None:
    """Check the baseline errors on nominal images: relative to a large one, every artifact agrees.

    ``exact`` is float64 with each image alone, ``baseline`` the precision in batches.

    Raises:
        InputError: a baseline error exceeds the policy's largest usable one; the message has the cause.
    """
    policy = POLICIES[precision]
    tensors = [("gate", i, path) for i, path in enumerate(exact[0].gate_paths)]
    tensors += [("output", i, str(i)) for i in range(len(exact[0].outputs))]
    for role, i, tensor in tensors:
        expected, results = [result.of(role)[i] for result in exact], [result.of(role)[i:] for result in baseline]
        if any(not own or own[0].size % max(array.size, 1) for own, array in zip(results, expected, strict=True)):
            raise _unstable(name, f"the {role} {tensor} has another size", run, batches, precision)
        error = PooledError().add_batches([own[0] for own in results], expected, batches)
        relative = error.relative(policy.gate_logits if role == "gate" else 0.0)
        relative = {kind: size for kind, size in relative.items() if kind in NOMINAL} or relative
        worst = max(relative, key=relative.__getitem__)
        if not relative[worst] <= policy.largest_baseline:
            what = f"it differs from float64 by {relative[worst]:.1e} in the {role} {tensor} on {worst} images"
            raise _unstable(name, what, run, batches, precision)


def _unstable(name: str, what: str, run: Run, batches: Sequence[Batch], precision: Precision) -> InputError:
    return InputError(
        f"{name}'s own {precision.onnx_name} result is no baseline: {what}. With such a baseline nothing can be proven",
        hint=_cause(run, batches),
    )


def _cause(run: Run, batches: Sequence[Batch]) -> str:
    batch = max(batches, key=len)
    first, second = run(batch.arrays), run(batch.arrays)
    if not _alike(first.outputs, second.outputs):
        return "Its results differ from run to run: does it draw random numbers, as a dropout that is always on?"
    alone = [run(repeated(image, len(batch))).rows(0, 1).outputs for image in batch.rows]
    joined = [np.concatenate(arrays) for arrays in zip(*alone, strict=True)]
    if not _alike(first.outputs, joined, BATCH_TOLERANCE):
        return (
            "An image's result depends on the others of its batch: does a layer mix them, as a BatchNorm in training "
            "mode, a softmax or a mean over the wrong axis?"
        )
    return (
        "Its results are the same in every run, so rounding decides what it computes: does it compute in half "
        "precision (autocast), divide by a tiny number, or subtract almost equal numbers?"
    )


def _alike(these: Sequence[Array], those: Sequence[Array], tolerance: float = 0.0) -> bool:
    pairs = zip(these, those, strict=True)
    return all(difference(np.asarray(a), np.asarray(b)) <= tolerance for a, b in pairs)


def diagnose(runtime: Runtime, reference: "Reference") -> str:
    """A clause: whether an artifact that disagrees is random, constant, or mixes the images of a batch; else empty."""
    outputs = runtime.signature.output_names
    inputs = runtime.signature.feeds(max(reference.batches, key=len).arrays)
    try:
        with runtime:
            first, second = (runtime.run(inputs) for _ in range(2))
            if any(not np.array_equal(first[o], second[o], equal_nan=True) for o in outputs):
                return "its results differ from run to run"
            varying = [o for i, o in enumerate(outputs) if i not in constant_outputs(reference)]
            constant = [o for o in varying if len(first[o]) > 1 and all_equal(list(np.asarray(first[o], float)))]
            if constant:
                return f"its {constant[0]} is the same for all images"
            reverse = runtime.run({name: array[::-1] for name, array in inputs.items()})
            if any(not _alike([reverse[o][::-1]], [first[o]], BATCH_TOLERANCE) for o in outputs):
                return "an image's result depends on the others of its batch"
    except (AttnExportError, IndexError, ValueError, TypeError):
        return ""
    return ""
