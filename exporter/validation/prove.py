"""Artifacts against the reference; a disagreement is an error."""

from typing import TYPE_CHECKING

import numpy as np

from attn_export.exporter.artifacts import LoadedModel, OnnxFile, Precision
from attn_export.exporter.errors import DisagreementError
from attn_export.exporter.records.engine import EngineFile, covers
from attn_export.exporter.records.verdict import SIZE, Comparison, FirstDivergence, Verdict, number
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.system.memory import large_blocks_returned
from attn_export.exporter.system.progress import Progress, counted

if TYPE_CHECKING:
    from attn_export.exporter.validation.reference import Reference


def prove(
    file: OnnxFile, model: LoadedModel, reference: "Reference", settings: Settings, progress: Progress
) -> Verdict:
    """Compare a file with PyTorch in float64.

    Raises:
        DisagreementError: it computes something else; the error names the module where that starts.
    """
    from attn_export.exporter.validation.first_divergence import find_first_divergence
    from attn_export.exporter.validation.validate import validate

    title = "Comparing ONNX Runtime with the reference"
    title += f" in {file.precision}" if file.precision is not Precision.FP32 else ""
    with progress.stage(title) as advance, large_blocks_returned():
        verdict = validate(file, reference, settings, counted(advance, 2 * len(reference.batches)))
    if verdict.gates_missed:
        progress.note(f"gates that were not compared: {verdict.gates_missed}")
    for note in omitted_kinds(verdict, reference):
        progress.note(note)
    if (first := verdict.first_disagreement) is not None:
        with progress.stage("Looking for where the error starts"):
            start = find_first_divergence(file, model, reference, settings, kind=first.kind)
        raise disagreement("the ONNX file", file.precision, first, verdict, start)
    return verdict


def omitted_kinds(verdict: Verdict, reference: "Reference") -> list[str]:
    """A note for the kinds of images that a tensor isn't judged on, because rounding decides what it is there."""
    kinds = dict.fromkeys(kind for batch in reference.batches for kind in batch.kinds)
    finite = {
        kind
        for batch, exact in zip(reference.batches, reference.exact, strict=True)
        for row, kind in enumerate(batch.kinds)
        if all(np.isfinite(array[row]).all() for array in exact.outputs if len(array) == len(batch.kinds))
    }
    tensors: dict[str, list[str]] = {}
    for kind in kinds:
        if kind in finite and (omitted := [c.tensor for c in verdict.comparisons if c.ratios and kind not in c.ratios]):
            tensors.setdefault(", ".join(omitted), []).append(kind)
    return [
        f"{names} isn't judged on {' and '.join(several)} images: rounding decides what the network computes there"
        for names, several in tensors.items()
    ]


def prove_engine(
    engine: EngineFile, file: OnnxFile, reference: "Reference", settings: Settings, progress: Progress
) -> Verdict:
    """Compare the outputs of an engine on this machine's GPU, on all images that it takes; the verdict agrees.

    Raises:
        DisagreementError: the engine computes something else.
        RuntimeUnavailableError, UnreadableEngineError: it doesn't run here.
    """
    from attn_export.exporter.runtimes.tensorrt import TensorRT
    from attn_export.exporter.validation.validate import validate_outputs

    with progress.stage("Comparing the engine with the reference") as advance:
        names = file.signature.input_names
        judged = reference.limited_to(lambda shapes: covers(engine.record.profile, names, shapes))
        runtime = TensorRT(engine.path, file.signature, settings)
        verdict = validate_outputs(runtime, file.precision, judged, counted(advance, len(judged.batches)))
    if (first := verdict.first_disagreement) is not None:
        raise disagreement("the engine", file.precision, first, verdict)
    return verdict


def disagreement(
    artifact: str,
    precision: Precision,
    first: Comparison,
    verdict: Verdict,
    start: FirstDivergence | None = None,
    *,
    own: str = "",
) -> DisagreementError:
    """The error for an artifact that computes something else, with the place where that starts if it is known.

    ``own`` says whose error the baseline is.
    """
    own = own or f"PyTorch's own {precision.onnx_name}"
    place = f"in the gate of {first.tensor}" if first.role == "gate" else f"in {first.tensor}"
    worst = verdict.worst
    if first.kind == SIZE:
        text = f"{place}, which has another size"
    elif first.error is None:
        text = f"{place}, which isn't a number on {first.kind} images"
    else:
        text = (
            f"{place} on {first.kind} images, error {first.error:.1e}, {own} {number(first.baseline)}, "
            f"{_times(first)} as large (allowed: {first.limit:.0f}); worst in {worst.tensor}, {_times(worst)}"
        )
    return DisagreementError(
        f"{artifact} doesn't compute what PyTorch computes: first seen {text}"
        + (f"; {start.describe()}" if start else ""),
        hint="No file was written. Please report it with the network and the versions (attn-export --version): the "
        "exporter, the cleanup or the runtime computes it wrong.",
    )


def _times(comparison: Comparison) -> str:
    return "which isn't a number" if comparison.ratio is None else f"{comparison.ratio:.0f} times"
