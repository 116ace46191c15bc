"""Records of what a workflow found out: the report of a run, and the summaries that commands print as JSON."""

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from attn_export.exporter.artifacts import CPU, LoadedModel, OnnxFile
from attn_export.exporter.errors import AttnExportError
from attn_export.exporter.records.artifact import Artifact
from attn_export.exporter.records.engine import EngineRecord
from attn_export.exporter.records.environment import describe
from attn_export.exporter.records.graphs import outlines_record
from attn_export.exporter.records.latency import Latency, Schedule
from attn_export.exporter.records.report import (
    ArtifactRecord,
    BundleRecord,
    EngineSummary,
    ErrorRecord,
    InputRecord,
    ModelRecord,
    OnnxRecord,
    Report,
)
from attn_export.exporter.records.summaries import (
    BuildSummary,
    BuiltEngine,
    BundleDescription,
    BundleValidation,
    CleanSummary,
    ConvertedSummary,
    ValidatedArtifact,
    ValidationSummary,
)
from attn_export.exporter.records.verdict import Verdict
from attn_export.exporter.system.files import sha256_of
from attn_export.exporter.system.machine import usable_cpu_numbers
from attn_export.exporter.validation.artifact import ONNX

if TYPE_CHECKING:
    from attn_export.exporter.bundle.read import Bundle
    from attn_export.exporter.records.results import (
        Benched,
        BuildResult,
        CleanResult,
        Deployed,
        Proven,
        ReportAssets,
        Validated,
    )


def export_report(
    model: LoadedModel,
    proven: "Sequence[Proven]",
    deployed: "Sequence[Deployed]",
    latency: Latency,
    assets: "ReportAssets",
    command: Sequence[str] | None,
) -> Report:
    """The report of an export.

    Args:
        model: the network.
        proven: its ONNX files, as they will be published.
        deployed: engines and bundles of each file; none if none were asked for.
        latency: everything that was timed.
        assets: graphs, gate activations and the cost of attention.
        command: the command line, None for a call from Python.
    """
    artifacts: list[ArtifactRecord] = [onnx_record(artifact.file, artifact.verdict) for artifact in proven]
    artifacts += [engine_summary(engine.path.name, engine.record) for one in deployed for engine in one.engines]
    artifacts += [bundle_record(bundle) for one in deployed for bundle in one.bundles]
    return _report(model, artifacts, latency, assets, command)


def bench_report(benched: "Benched", command: Sequence[str] | None = None) -> Report:
    """The report of a bench."""
    files = iter(benched.files)
    artifacts = [
        _onnx_as_found(artifact, next(files)) if artifact.format == ONNX else _engine_as_found(artifact, name)
        for artifact, name in zip(benched.artifacts, benched.names, strict=True)
    ]
    return _report(benched.model, artifacts, benched.latency, benched.assets, command)


def validation_report(
    model: LoadedModel,
    results: "Sequence[Validated]",
    names: Sequence[str],
    files: Sequence[OnnxFile],
    assets: "ReportAssets",
    *,
    threads: int,
    command: Sequence[str] | None = None,
) -> Report:
    """The report of a validation, in which nothing is timed.

    Args:
        model: the network.
        results: one for each artifact.
        names: of the artifacts.
        files: the ONNX files among them, with their attention.
        assets: graphs and gate activations.
        threads: of every runtime.
        command: the command line, None for a call from Python.
    """
    onnx = iter(files)
    artifacts = [
        _onnx_as_found(result.artifact, next(onnx), result)
        if result.artifact.format == ONNX
        else _engine_as_found(result.artifact, name, result)
        for result, name in zip(results, names, strict=True)
    ]
    latency = Latency(threads, usable_cpu_numbers(), Schedule())
    on_gpu = any(result.artifact.format != ONNX for result in results)
    return _report(model, artifacts, latency, assets, command, on_gpu=on_gpu)


def _report(
    model: LoadedModel | None,
    artifacts: Sequence[ArtifactRecord],
    latency: Latency,
    assets: "ReportAssets",
    command: Sequence[str] | None,
    *,
    on_gpu: bool = False,
) -> Report:
    return Report(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=tuple(command) if command else None,
        model=model_record(model) if model else None,
        artifacts=tuple(artifacts),
        latency=latency,
        environment=describe(with_gpus=on_gpu or any(timing.device != CPU for timing in latency.timings)),
        attention_cost=assets.costs,
        graphs=tuple(map(outlines_record, assets.graphs)),
        gate_activations=assets.activations,
    )


def model_record(model: LoadedModel) -> ModelRecord:
    """The network, and how its checkpoint was read."""
    return ModelRecord(
        name=model.name,
        checkpoint=str(model.path) if model.path else None,
        sha256=model.sha256,
        architecture=model.architecture.to_dict() if model.architecture else None,
        input_shape=model.input_shape,
        normalization=model.normalization,
        class_names=model.class_names,
        notes=model.notes,
    )


def onnx_record(
    file: OnnxFile, verdict: Verdict | None, *, precision: str = "", findings: "Validated | None" = None
) -> OnnxRecord:
    """An ONNX file and its verdict.

    Args:
        file: on disk.
        verdict: None where it wasn't validated.
        precision: that the file's own is called; by default its ONNX name.
        findings: of a validation.
    """
    signature = file.signature
    return OnnxRecord(
        path=file.name,
        precision=precision or file.precision.onnx_name,
        kept_in_float32=file.kept,
        sha256=sha256_of(file.path),
        opset=file.opset,
        nodes=file.nodes,
        input=InputRecord(signature.input_name, signature.input_shape, signature.axes),
        outputs=signature.output_names,
        gates=file.gates,
        cleanup=file.steps,
        attention=file.blocks,
        validation=verdict,
        notes=findings.notes if findings else (),
        quantized=findings.quality if findings else None,
        first_divergence=findings.first_divergence if findings else None,
        error=error_record(findings.error) if findings else None,
    )


def engine_summary(
    name: str,
    record: EngineRecord,
    *,
    verdict: Verdict | None = None,
    not_run: str | None = None,
    findings: "Validated | None" = None,
) -> EngineSummary:
    """An engine, without what only its sidecar lists.

    Args:
        name: of the engine.
        record: the sidecar.
        verdict: the sidecar's if None.
        not_run: the sidecar's if there are no findings.
        findings: of a validation.
    """
    return EngineSummary(
        path=name,
        precision=record.precision.requested,
        types=record.precision,
        sha256=record.sha256,
        bytes=record.bytes,
        backend=record.backend,
        gpus=record.gpus,
        platform=record.platform,
        options=record.options,
        profile=record.profile,
        onnx=record.onnx,
        cost=record.cost,
        build=record.build,
        kernels=record.cost.kernels,
        failed=record.failed,
        not_run=not_run if findings else record.not_run,
        validation=verdict if findings else record.validation,
        notes=findings.notes if findings else (),
        quantized=findings.quality if findings else None,
        first_divergence=findings.first_divergence if findings else None,
        error=error_record(findings.error) if findings else None,
    )


def bundle_record(bundle: Path) -> BundleRecord:
    """A deployment bundle."""
    return BundleRecord(bundle.name, sha256_of(bundle), bundle.stat().st_size)


def error_record(error: AttnExportError | None) -> ErrorRecord | None:
    """An error as a command prints it."""
    return ErrorRecord(error.message, error.hint, error.exit_code) if error else None


def _onnx_as_found(artifact: Artifact, file: OnnxFile, findings: "Validated | None" = None) -> OnnxRecord:
    precision = artifact.quantized_type if artifact.quantized else ""
    return onnx_record(file, findings.verdict if findings else None, precision=precision, findings=findings)


def _engine_as_found(artifact: Artifact, name: str, findings: "Validated | None" = None) -> EngineSummary:
    assert artifact.sidecar is not None  # an engine without one can't be judged or timed
    verdict = findings.verdict if findings else None
    not_run = findings.error.message if findings and findings.error and not verdict else None
    return engine_summary(name, artifact.sidecar, verdict=verdict, not_run=not_run, findings=findings)


def clean_summary(result: "CleanResult", error: AttnExportError | None = None) -> CleanSummary:
    """What a cleanup did to a file."""
    cleaned = result.cleaned
    return CleanSummary(
        path=str(result.path),
        nodes_before=result.nodes_before,
        nodes_after=result.nodes_after,
        steps=cleaned.steps,
        applied=cleaned.applied,
        skipped=cleaned.skipped,
        reverted=cleaned.reverted,
        attention=cleaned.blocks,
        source=result.verdict,
        error=error_record(error),
    )


def build_summary(result: "BuildResult") -> BuildSummary:
    """What a build made."""
    return BuildSummary(
        onnx=tuple(ConvertedSummary(str(r.path), r.kept, r.verdict) for r in result.retyped),
        engines=tuple(BuiltEngine(str(engine.path), engine.record) for engine in result.engines),
        bundles=tuple(map(str, result.bundles)),
    )


def validation_summary(
    model: LoadedModel, results: "Sequence[Validated]", error: AttnExportError | None = None
) -> ValidationSummary:
    """What a validation against a checkpoint found out."""
    return ValidationSummary(
        model=model_record(model),
        agrees=all(result.error is None for result in results),
        artifacts=tuple(map(_validated_artifact, results)),
        error=error_record(error),
    )


def _validated_artifact(result: "Validated") -> ValidatedArtifact:
    artifact = result.artifact
    return ValidatedArtifact(
        path=str(artifact.path),
        format=artifact.format,
        sha256=sha256_of(artifact.path),
        precision=artifact.quantized_type or artifact.precision.onnx_name,
        source_sha256=artifact.source_sha256 or None,
        validation=result.verdict,
        notes=result.notes,
        quantized=result.quality,
        first_divergence=result.first_divergence,
        error=error_record(result.error),
    )


def bundle_validation(
    bundle: "Bundle", artifact: Path, verdict: Verdict, error: AttnExportError | None = None
) -> BundleValidation:
    """What a validation against a bundle's golden outputs found out."""
    return BundleValidation(
        bundle=BundleDescription(str(bundle.path), bundle.sha256, bundle.manifest.architecture),
        artifact=str(artifact),
        validation=verdict,
        error=error_record(error),
    )
