"""Compares a quantized artifact with its own graph and with the network.

What runs the artifact must compute what its graph says. The graph is compared with the network twice: as floats without
its rounding, and as it is by its quality.
"""

from typing import TYPE_CHECKING

from msgspec import structs

from attn_export.exporter.errors import AttnExportError, DisagreementError, InputError, RuntimeUnavailableError
from attn_export.exporter.records.policies import QUANTIZED
from attn_export.exporter.records.results import Validated
from attn_export.exporter.records.verdict import Comparison, QualityRequirement, Verdict, number
from attn_export.exporter.runtimes.onnxruntime import BIASES_ROUNDED, OnnxRuntime
from attn_export.exporter.system.progress import Progress
from attn_export.exporter.validation.float_part import compare_without_rounding
from attn_export.exporter.validation.prove import disagreement
from attn_export.exporter.validation.quantized import (
    Outputs,
    broken,
    classes_of,
    outputs_of,
    quality,
    runtime_conformance,
    with_default,
)
from attn_export.exporter.workflows.subject import Subject

if TYPE_CHECKING:
    from attn_export.exporter.validation.reference import Reference


def compare_quantized(
    subject: Subject, reference: "Reference", requirement: QualityRequirement | None, progress: Progress
) -> Validated:
    """Compare a quantized artifact. An error becomes part of the result, and so does a check that can't be made."""
    path, names, required = subject.artifact.path, subject.match.signature.output_names, with_default(requirement)
    try:
        with progress.stage(f"Running {path.name}, and what its graph says"):
            verdict, computed, notes = _conformance(subject, reference)
            in_floats, missed, more = _in_floats(subject, reference)
    except RuntimeUnavailableError as error:
        return subject.result(error=error)
    found = quality(computed, reference, names)
    failed = _unfaithful(subject, verdict) or _other_network(subject, in_floats, verdict)
    poor = broken(required, found, str(path))
    if failed is not None and poor is not None:
        failed.message += f"; {poor.message}"
        failed.hint = f"{failed.hint} {poor.hint}"
    notes += (*more, f"the quality of its outputs is compared with the network ({required.sqnr:g} dB are required)")
    for note in notes:
        progress.note(f"{path.name}: {note}")
    comparisons = (*in_floats, *verdict.comparisons)
    verdict = structs.replace(verdict, comparisons=comparisons, classes=classes_of(found), gates_missed=missed)
    return subject.result(*notes, verdict=verdict, quality=found, error=failed or poor)


def _conformance(subject: Subject, reference: "Reference") -> tuple[Verdict, Outputs, tuple[str, ...]]:
    """The verdict on the runtime, the graph's outputs, and notes."""
    graph, runtime = subject.artifact.quantized, subject.runtime()
    assert graph is not None
    try:
        verdict, computed = runtime_conformance(runtime, graph, reference.batches)
    except InputError as error:
        batches = reference.batches
        verdict = QUANTIZED.verdict(runtime.name, (), (b.shapes for b in batches), images=sum(map(len, batches)))
        note = f"whether {runtime.name} computes what it says can't be checked: {error.message}"
        return verdict, outputs_of(runtime, reference.batches), (note,)
    if verdict.agrees or not isinstance(runtime, OnnxRuntime):
        return verdict, computed, ()
    exact = OnnxRuntime(graph, subject.match.signature, subject.settings, without=BIASES_ROUNDED)
    other, computed = runtime_conformance(exact, graph, reference.batches)
    if not other.agrees:
        return verdict, computed, ()
    note = f"ONNX Runtime rounds its float biases to int32, which moves outputs by {number(verdict.worst.error)}"
    return other, computed, (f"{note}; compared without that",)


def _in_floats(subject: Subject, reference: "Reference") -> tuple[list[Comparison], str, tuple[str, ...]]:
    """The comparisons with the network, the gates that are missed, and notes."""
    signature = subject.match.signature
    try:
        comparisons, missed = compare_without_rounding(subject.artifact, signature, reference, subject.settings)
    except InputError as error:
        reason = f"it can't be compared with the network as floats: {error.message}"
        return [], reason, (reason,)
    note = f"{len(comparisons)} gates and outputs are compared with the network without its rounding"
    return comparisons, missed, (note, *([f"gates that were not compared: {missed}"] if missed else []))


def _unfaithful(subject: Subject, verdict: Verdict) -> AttnExportError | None:
    """The error of a runtime that doesn't compute the graph."""
    first, graph = verdict.first_disagreement, subject.artifact.quantized
    if first is None or graph is None:
        return None
    return DisagreementError(
        f"{verdict.runtime} doesn't compute what {graph.name} says: most images are off by {number(first.error)} in "
        f"{first.tensor}, by {number(first.baseline)} where only float32 rounds ({first.limit:g} times are allowed)",
        hint="A scale, a zero point or a rounding differs. Please report it with the file and the versions.",
    )


def _other_network(subject: Subject, comparisons: list[Comparison], verdict: Verdict) -> AttnExportError | None:
    """The error of a file whose weights, layers or wiring aren't the network's."""
    first, artifact = next((c for c in comparisons if not c.agrees), None), subject.artifact
    if first is None:
        return None
    judged, name = structs.replace(verdict, comparisons=tuple(comparisons)), f"{artifact.path} without its rounding"
    own = "that of its weights' rounding"
    message = disagreement(name, artifact.precision, first, judged, own=own).message
    return DisagreementError(message, hint="Was it quantized from this checkpoint?")
