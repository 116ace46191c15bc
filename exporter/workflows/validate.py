"""One job: artifacts of any origin against a checkpoint."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from attn_export.exporter.artifacts import LoadedModel, Precision
from attn_export.exporter.errors import (
    AttnExportError,
    DisagreementError,
    InputError,
    RuntimeUnavailableError,
    UsageError,
)
from attn_export.exporter.network.images import Batch, Images
from attn_export.exporter.records.artifact import Artifact
from attn_export.exporter.records.report import Report
from attn_export.exporter.records.results import Validated
from attn_export.exporter.records.verdict import Verdict, number
from attn_export.exporter.runtimes import runtime_of_file
from attn_export.exporter.runtimes.base import Runtime, Settings
from attn_export.exporter.system.machine import usable_cpus
from attn_export.exporter.system.progress import NullProgress, Progress, counted
from attn_export.exporter.validation.artifact import ENGINE, ONNX, read_artifact
from attn_export.exporter.validation.matching import Match, batches_for, match

if TYPE_CHECKING:
    from attn_export.exporter.records.verdict import QualityRequirement
    from attn_export.exporter.validation.cache import Cache
    from attn_export.exporter.validation.reference import Reference

SHOWN = 12  # of a hash


def validate_artifacts(
    model: LoadedModel,
    paths: Path | str | Sequence[Path | str],
    *,
    threads: int | None = None,
    trust: bool = False,
    images: Images | None = None,
    requirement: "QualityRequirement | None" = None,
    cache: "Cache | None" = None,
    progress: Progress | None = None,
) -> list[Validated]:
    """Compare artifacts with the network in double precision. Nothing is written beside them.

    Args:
        model: the network.
        paths: one or several ONNX files, or engines with their records.
        threads: of every runtime; all usable CPUs if None.
        trust: take engines that were changed since their records were written.
        images: real ones besides those that are made, (N, C, H, W) float32 as the network takes them.
        requirement: what artifacts that round to whole numbers have to keep.
        cache: of the network's results; None computes them anew.
        progress: receives stages and notes.

    Returns:
        One for each path, in their order. It is the caller who fails, with `failure`.

    Raises:
        UsageError: no artifact is named, or one twice, or something is promised of none.
        InputError: an artifact can't be read, takes or returns something else than the network, or the network can't be
            a reference.
    """
    progress = progress or NullProgress()
    settings = Settings(threads or usable_cpus())
    files = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    if not files:
        raise UsageError("no artifact was named", hint="attn-export validate model.pt model.onnx model.engine")
    if len(set(files)) < len(files):
        raise UsageError("an artifact was named twice", hint="Name each once.")
    with progress.stage("Reading the artifacts"):
        from attn_export.exporter.validation.compute_reference import returned

        read = [read_artifact(path, trust=trust) for path in files]
        if requirement and not any(artifact.quantized for artifact in read):
            raise UsageError(
                "--require is for artifacts that round to whole numbers, and none of these does",
                hint="Others are judged by PyTorch's own error.",
            )
        gives = returned(model)
        matches = [match(artifact, model.input_shape, gives) for artifact in read]
    judged = [batches_for(a, m.signature, images) for a, m in zip(read, matches, strict=True)]
    reference = _reference(model, judged, [artifact.precision for artifact in read], cache, progress)
    made = []
    for artifact, fit, batches in zip(read, matches, judged, strict=True):
        own = reference.for_batches(batches)
        for note in fit.notes:
            progress.note(note)
        if artifact.quantized:
            made.append(_quantized(artifact, fit, own, requirement, settings, trust, progress))
        else:
            made.append(_validated(model, artifact, fit, own, settings, trust, progress))
    return made


def _reference(
    model: LoadedModel,
    judged: Sequence[Sequence[Batch]],
    precisions: Sequence[Precision],
    cache: "Cache | None",
    progress: Progress,
) -> "Reference":
    from attn_export.exporter.system.memory import trim
    from attn_export.exporter.validation.cache import cached_reference
    from attn_export.exporter.validation.reference import constant_outputs

    # Artifacts share most of their batches.
    batches = list({batch.names: batch for several in judged for batch in several}.values())
    with progress.stage("Computing the reference in float64") as advance:
        reference, was_there = cached_reference(
            model, batches, counted(advance, len(batches)), tuple(dict.fromkeys(precisions)), cache
        )
        trim()
    if was_there:
        progress.note(
            "the reference was computed before, from the same weights by the same operators on the same images"
        )
    for output in constant_outputs(reference):
        progress.note(f"output {output} of {model.name} is the same for all images: it proves nothing")
    return reference


def _validated(
    model: LoadedModel,
    artifact: Artifact,
    fit: Match,
    reference: "Reference",
    settings: Settings,
    trust: bool,
    progress: Progress,
) -> Validated:
    """Run one artifact; what goes wrong with it doesn't keep others from being judged."""
    from attn_export.exporter.validation.validate import validate, validate_outputs

    name = artifact.path.name
    try:
        with progress.stage(f"Running {name}") as advance:
            if artifact.format == ENGINE:
                runtime = _engine(artifact, fit, settings, trust)
                verdict = validate_outputs(
                    runtime, artifact.precision, reference, counted(advance, len(reference.batches))
                )
            else:
                runtime = _onnx(artifact, fit, settings)
                total = (2 if artifact.gates else 1) * len(reference.batches)
                verdict = validate(artifact.as_file(fit.signature), reference, settings, counted(advance, total))
    except (RuntimeUnavailableError, InputError) as error:
        return Validated(artifact, fit.signature, fit.notes, error=error)
    if verdict.agrees:
        return _agreeing(model, artifact, fit, verdict, progress)
    with progress.stage(f"Looking for where {name}'s error starts"):
        return _disagreeing(model, artifact, fit, verdict, reference, settings, runtime)


def _quantized(
    artifact: Artifact,
    fit: Match,
    reference: "Reference",
    requirement: "QualityRequirement | None",
    settings: Settings,
    trust: bool,
    progress: Progress,
) -> Validated:
    """One artifact that rounds to whole numbers: the runtime against its graph, and the graph against the network."""
    from attn_export.exporter.validation.quantized import broken, classes_of, quality, runtime_conformance

    assert artifact.quantized is not None
    runtime = _engine(artifact, fit, settings, trust) if artifact.format == ENGINE else _onnx(artifact, fit, settings)
    try:
        with progress.stage(f"Running {artifact.path.name}, and what its graph says"):
            verdict, said = runtime_conformance(runtime, artifact.quantized, reference.batches)
    except (RuntimeUnavailableError, InputError) as error:
        return Validated(artifact, fit.signature, fit.notes, error=error)
    found = quality(said, reference, fit.signature.output_names)
    verdict = structs.replace(verdict, classes=classes_of(found))
    failed: AttnExportError | None = None
    if (first := verdict.first_disagreement) is not None:
        failed = DisagreementError(
            f"{runtime.name} doesn't compute what {artifact.quantized.name} says: most images are off by "
            f"{number(first.error)} in {first.tensor}, and by {number(first.baseline)} where only float32 rounds "
            f"({first.limit:g} times are allowed)",
            first_seen=first.tensor,
            hint="A scale, a zero point or a rounding differs. Please report it with the file and the versions.",
        )
    elif requirement is not None:
        failed = broken(requirement, found, str(artifact.path))
    return Validated(artifact, fit.signature, fit.notes, verdict, found, error=failed)


def _agreeing(model: LoadedModel, artifact: Artifact, fit: Match, verdict: Verdict, progress: Progress) -> Validated:
    notes = list(fit.notes)
    if artifact.source_sha256 and artifact.source_sha256 != model.sha256:
        notes.append(
            f"{artifact.path} was made of another file ({artifact.source_sha256[:SHOWN]}…) with the same weights"
        )
        progress.note(notes[-1])
    if verdict.gates_missed:
        progress.note(f"{artifact.path}: the gates were not compared: {verdict.gates_missed}")
    return Validated(artifact, fit.signature, tuple(notes), verdict)


def _disagreeing(
    model: LoadedModel,
    artifact: Artifact,
    fit: Match,
    verdict: Verdict,
    reference: "Reference",
    settings: Settings,
    runtime: Runtime,
) -> Validated:
    """Say why, as far as that can be found out."""
    from attn_export.exporter.validation.diagnosis import ANOTHER_NETWORK, diagnose
    from attn_export.exporter.validation.first_divergence import find_first_divergence
    from attn_export.exporter.validation.prove import disagreement

    first = verdict.first_disagreement
    assert first is not None
    if artifact.source_sha256 and artifact.source_sha256 != model.sha256:
        other: AttnExportError = InputError(
            f"{artifact.path} was made of another checkpoint ({artifact.source_sha256[:SHOWN]}…) than {model.path} "
            f"({model.sha256[:SHOWN]}…), and computes something else: {first.tensor} is off by {number(first.error)}",
            hint="Export this checkpoint, or name the one that the artifact was made of.",
        )
        return Validated(artifact, fit.signature, fit.notes, verdict, error=other)
    start = None
    if artifact.format == ONNX:
        start = find_first_divergence(artifact.as_file(fit.signature), model, reference, settings, kind=first.kind)
    told = disagreement(str(artifact.path), artifact.precision, first, verdict)
    parts = [told.message, start.describe() if start else "", diagnose(runtime, reference)]
    hint = "Please report it with the network and the versions (attn-export --version), if it was made of this network."
    if (first.error is None or first.error > ANOTHER_NETWORK) and not artifact.source_sha256:
        hint = "Was it made of this checkpoint? It doesn't say."
    error = DisagreementError("; ".join(part for part in parts if part), first_seen=told.first_seen, hint=hint)
    return Validated(artifact, fit.signature, fit.notes, verdict, first_divergence=start, error=error)


def _onnx(artifact: Artifact, fit: Match, settings: Settings) -> Runtime:
    if artifact.quantized_type.startswith("float"):
        # ONNX Runtime 1.32 takes float8, and drops the ReLU before a QuantizeLinear of it, as is right for int8 only.
        from attn_export.exporter.runtimes.evaluator import Evaluator

        return Evaluator(artifact.path, fit.signature, settings)
    return runtime_of_file(artifact.as_file(fit.signature), settings)


def _engine(artifact: Artifact, fit: Match, settings: Settings, trust: bool) -> Runtime:
    from attn_export.exporter.runtimes.tensorrt import TensorRT

    # An engine's open axes are open within its profile, which the runtime knows.
    return TensorRT(artifact.path, fit.signature, settings, trust=trust)


def failure(results: Sequence[Validated]) -> AttnExportError | None:
    """The error for all artifacts together; None if all agree.

    A disagreement comes before an artifact that doesn't fit, and that before one that couldn't be run.
    """
    failed = [result.error for result in results if result.error is not None]
    if not failed:
        return None
    order: Mapping[int, int] = {DisagreementError.exit_code: 0, InputError.exit_code: 1}
    failed.sort(key=lambda error: order.get(error.exit_code, len(order)))
    worst = failed[0]
    if len(failed) > 1:
        others = "".join(f"\n{error.message}" for error in failed[1:])
        worst.message += f"\n{len(failed) - 1} more of {len(results)} artifacts:{others}"
    return worst


def report_of_validation(
    model: LoadedModel,
    results: Sequence[Validated],
    *,
    threads: int | None = None,
    images: Images | None = None,
    command: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Report:
    """The report of a validation, with the graphs and the gates of its artifacts to look at.

    Args:
        model: the network.
        results: what `validate_artifacts` found.
        threads: of every runtime; all usable CPUs if None.
        images: the user's, (N, C, H, W); the gates are looked at on the first.
        command: the command line, None for a call from Python.
        progress: receives stages and notes.
    """
    from attn_export.exporter.cleanup.inspect import blocks_of
    from attn_export.exporter.records.gates import ENGINE_UNAVAILABLE
    from attn_export.exporter.system.files import unique_names
    from attn_export.exporter.workflows.assets import show
    from attn_export.exporter.workflows.record import validation_report

    settings = Settings(threads or usable_cpus())
    names = unique_names([result.artifact.path for result in results])
    named = list(zip(results, names, strict=True))
    files = [
        result.artifact.as_file(result.signature, blocks=blocks_of(result.artifact.parsed), label=name)
        for result, name in named
        if result.artifact.parsed is not None
    ]
    unavailable = {name: ENGINE_UNAVAILABLE for result, name in named if result.artifact.format == ENGINE}
    shown = show(model, files, settings, progress or NullProgress(), images=images, unavailable=unavailable)
    return validation_report(model, results, names, files, shown, threads=settings.threads, command=command)
