"""Why nothing can be proven about a network, and what is diagnose about an artifact that disagrees, in words."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from attn_export.exporter.artifacts import Precision
from attn_export.exporter.errors import AttnExportError, InputError
from attn_export.exporter.network.images import NOMINAL, Batch
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.runtimes.base import Runtime
from attn_export.exporter.validation.metrics import PooledError
from attn_export.exporter.validation.policies import POLICIES
from attn_export.exporter.validation.reference import _is_constant, constant_outputs

if TYPE_CHECKING:
    from attn_export.exporter.network.run import Result
    from attn_export.exporter.validation.reference import Reference

Run = Callable[[Array], "Result"]

# An error like this isn't one of rounding or of a single layer.
ANOTHER_NETWORK = 0.1


def refuse_unstable(
    name: str, run: Run, batches: Sequence[Batch], exact: Sequence["Result"], own: Sequence["Result"], kind: Precision
) -> None:
    """Look at the baseline of one precision: with a large one everything would agree.

    Ordinary images count. Extreme ones on which it is too large aren't judged.

    Args:
        name: of the network.
        run: the network as it is, in float32.
        batches: that were run.
        exact: in double precision, each image alone.
        own: in the precision, as batches.
        kind: the precision.

    Raises:
        InputError: the network's own result is too far from float64 to judge anything by; the message says why.
    """
    policy = POLICIES[kind]
    for role, tensors in (("gate", list(enumerate(exact[0].gate_paths))), ("output", _numbered(exact[0].outputs))):
        for i, tensor in tensors:
            error = PooledError()
            for batch, reference, result in zip(batches, exact, own, strict=True):
                picked = (result.gates, reference.gates) if role == "gate" else (result.outputs, reference.outputs)
                if i >= len(picked[0]) or picked[0][i].size % max(picked[1][i].size, 1):
                    raise _unstable(name, f"the {role} {tensor} is of another size", run, batches, kind)
                error.add(picked[0][i], picked[1][i], batch.kinds)
            relative = error.relative(policy.gate_logits if role == "gate" else 0.0)
            relative = {kind: size for kind, size in relative.items() if kind in NOMINAL} or relative
            worst = max(relative, key=relative.__getitem__)
            if not relative[worst] <= policy.largest_baseline:
                what = f"it differs from float64 by {relative[worst]:.1e} in the {role} {tensor} on {worst} images"
                raise _unstable(name, what, run, batches, kind)


def _numbered(outputs: Sequence[Array]) -> list[tuple[int, str]]:
    return [(i, str(i)) for i in range(len(outputs))]


def _unstable(name: str, what: str, run: Run, batches: Sequence[Batch], kind: Precision) -> InputError:
    return InputError(
        f"{name}'s own {kind.onnx_name} result is no baseline: {what}. With such a baseline nothing can be proven",
        hint=_why(run, batches),
    )


def _why(run: Run, batches: Sequence[Batch]) -> str:
    batch = max(batches, key=lambda b: len(b.images))
    first, second = run(batch.images), run(batch.images)
    if not _alike(first.outputs, second.outputs):
        return "It gives other results each time it runs: does it draw random numbers, as a dropout that is always on?"
    alone = [run(image[None]).outputs for image in batch.images]
    joined = [np.concatenate(arrays) for arrays in zip(*alone, strict=True)]
    if not _alike(first.outputs, joined, 1e-3):
        return (
            "An image's result depends on the others of its batch: does a layer mix them, as a BatchNorm in training "
            "mode, a softmax or a mean over the wrong axis?"
        )
    return (
        "It gives the same results each time, so rounding decides what it computes: does it divide by something tiny, "
        "or take the difference of almost equal numbers?"
    )


def _alike(these: Sequence[Array], those: Sequence[Array], tolerance: float = 0.0) -> bool:
    pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in zip(these, those, strict=True)]
    return all(
        a.shape == b.shape and float(np.linalg.norm(a - b)) <= tolerance * float(np.linalg.norm(b)) for a, b in pairs
    )


def diagnose(runtime: Runtime, reference: "Reference") -> str:
    """What is told of an artifact that disagrees: that it is random, constant, or mixes the images of a batch.

    Args:
        runtime: of the artifact, not open.
        reference: that it disagrees with.

    Returns:
        A sentence, empty where nothing is diagnose or it doesn't run any more.
    """
    name = runtime.signature.input_name
    outputs = runtime.signature.output_names
    batch = max(reference.batches, key=lambda b: len(b.images))
    try:
        with runtime:
            first, second = (runtime.run({name: batch.images}) for _ in range(2))
            if any(not np.array_equal(first[o], second[o], equal_nan=True) for o in outputs):
                return "it gives other results each time it runs"
            constant = [o for i, o in enumerate(outputs) if i not in constant_outputs(reference)]
            constant = [o for o in constant if len(first[o]) > 1 and _is_constant([list(np.asarray(first[o], float))])]
            if constant:
                return f"its {constant[0]} is the same for all images"
            turned = runtime.run({name: batch.images[::-1]})
            if any(not _alike([turned[o][::-1]], [first[o]], 1e-3) for o in outputs):
                return "an image's result depends on the others of its batch"
    except (AttnExportError, IndexError, ValueError, TypeError):
        return ""
    return ""
