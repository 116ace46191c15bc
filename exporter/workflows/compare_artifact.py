"""Compares one artifact with the reference outputs, and explains a disagreement."""

from typing import TYPE_CHECKING

from attn_export.exporter.artifacts import LoadedModel, Precision
from attn_export.exporter.errors import DisagreementError, InputError, RuntimeUnavailableError
from attn_export.exporter.records.results import Validated
from attn_export.exporter.records.verdict import Verdict, number
from attn_export.exporter.runtimes.base import Runtime
from attn_export.exporter.system.progress import Progress, counted
from attn_export.exporter.workflows.subject import Subject

if TYPE_CHECKING:
    from attn_export.exporter.validation.reference import Reference

SHOWN = 12  # digits of a hash


def compare(model: LoadedModel, subject: Subject, reference: "Reference", progress: Progress) -> Validated:
    """Compare an artifact with the network. An error becomes part of the result."""
    from attn_export.exporter.validation.validate import validate, validate_outputs

    artifact, settings = subject.artifact, subject.settings
    try:
        with progress.stage(f"Running {artifact.path.name}") as advance:
            runtime = subject.runtime()
            runs = (1 if subject.is_engine or not artifact.gates else 2) * len(reference.batches)
            if subject.is_engine:
                verdict = validate_outputs(runtime, artifact.precision, reference, counted(advance, runs))
            else:
                verdict = validate(subject.file, reference, settings, counted(advance, runs))
    except (RuntimeUnavailableError, InputError) as error:
        return subject.result(error=error)
    if verdict.agrees:
        overflow, notes = _range(subject, progress)
        return _agreeing(model, subject, verdict, progress, notes, overflow)
    with progress.stage(f"Looking for where {artifact.path.name}'s error starts"):
        return _disagreeing(model, subject, verdict, reference, runtime)


def _range(subject: Subject, progress: Progress) -> tuple[DisagreementError | None, list[str]]:
    """The error of a float16 file that overflows where ONNX Runtime on a CPU doesn't, and notes."""
    from attn_export.exporter.precision.rounding import FLOAT16
    from attn_export.exporter.validation.float16_range import float16_range

    artifact, found = subject.artifact, subject.match
    if artifact.precision is not Precision.FP16 or artifact.parsed is None:
        return None, []
    try:
        with progress.stage(f"Measuring the values of {artifact.path.name}"):
            measured = float16_range(artifact.parsed, found.inputs, found.signature, subject.settings.threads)
    except InputError as error:
        return None, [f"whether it stays within float16's range can't be measured: {error.message}"]
    if measured.overflow:
        overflow = DisagreementError(
            f"{artifact.path} overflows float16: {measured.overflow}, and float16 ends at {FLOAT16.largest:g}; ONNX "
            "Runtime on a CPU computes in float32, so its outputs don't show it",
            hint="Keep that part in float32: attn-export build model.onnx --precision fp16 does.",
        )
        return overflow, []
    sums = ", ".join(measured.sums)
    return None, [f"the means {sums} overflow float16 where a kernel adds in float16"] if sums else []


def _agreeing(
    model: LoadedModel,
    subject: Subject,
    verdict: Verdict,
    progress: Progress,
    more: list[str],
    error: DisagreementError | None,
) -> Validated:
    artifact, notes = subject.artifact, []
    if artifact.source_sha256 not in ("", model.sha256):
        notes.append(f"was made of another file ({artifact.source_sha256[:SHOWN]}…) with the same weights")
    notes = [f"{artifact.path} {note}" for note in notes] + [f"{artifact.path}: {note}" for note in more]
    for note in notes:
        progress.note(note)
    if verdict.gates_missed:
        progress.note(f"{artifact.path}: gates that were not compared: {verdict.gates_missed}")
    return subject.result(*notes, verdict=verdict, error=error)


def _disagreeing(
    model: LoadedModel, subject: Subject, verdict: Verdict, reference: "Reference", runtime: Runtime
) -> Validated:
    """A disagreement with its likely reason and the first divergent layer."""
    from attn_export.exporter.validation.diagnosis import ANOTHER_NETWORK, diagnose
    from attn_export.exporter.validation.first_divergence import find_first_divergence
    from attn_export.exporter.validation.prove import disagreement

    artifact, first = subject.artifact, verdict.first_disagreement
    assert first is not None
    if artifact.source_sha256 not in ("", model.sha256):
        other = InputError(
            f"{artifact.path} was made of another checkpoint ({artifact.source_sha256[:SHOWN]}…) than {model.path} "
            f"({model.sha256[:SHOWN]}…), and computes something else: {first.tensor} is off by {number(first.error)}",
            hint="Export this checkpoint, or name the one that the artifact was made of.",
        )
        return subject.result(verdict=verdict, error=other)
    start = None
    if not subject.is_engine:
        start = find_first_divergence(subject.file, model, reference, subject.settings, kind=first.kind)
    error = disagreement(str(artifact.path), artifact.precision, first, verdict)
    parts = [error.message, start.describe() if start else "", diagnose(runtime, reference)]
    hint = "Please report it with the network and the versions (attn-export --version), if it was made of this network."
    if (first.error is None or first.error > ANOTHER_NETWORK) and not artifact.source_sha256:
        hint = "Was it made of this checkpoint? It doesn't say."
    error = DisagreementError("; ".join(part for part in parts if part), hint=hint)
    return subject.result(verdict=verdict, first_divergence=start, error=error)
