"""Records of what a workflow found out: the report of a run, and the summaries that commands print as JSON."""

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs

from attn_export.exporter.artifacts import CPU, Input, LoadedModel, OnnxFile
from attn_export.exporter.budgets.check import check_budgets
from attn_export.exporter.graph.write import external_data_of
from attn_export.exporter.records.accuracy import Evaluation
from attn_export.exporter.records.artifact import Artifact
from attn_export.exporter.records.engine import EngineRecord
from attn_export.exporter.records.environment import describe
from attn_export.exporter.records.images import ImageSource
from attn_export.exporter.records.latency import Latency
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
from attn_export.exporter.records.results import (
    Benched,
    CleanResult,
    Deployed,
    Proven,
    ReportAssets,
    Validated,
)
from attn_export.exporter.records.summaries import (
    BundleDescription,
    BundleValidation,
    CleanSummary,
    ValidatedArtifact,
    ValidationSummary,
)
from attn_export.exporter.records.verdict import Verdict
from attn_export.exporter.system.files import sha256_of

if TYPE_CHECKING:
    from attn_export.exporter.bundle.read import Bundle
    from attn_export.exporter.workflows.export_job import ExportJob


def export_report(
    job: "ExportJob",
    proven: Sequence[Proven],
    deployed: Sequence[Deployed],
    latency: Latency,
    assets: ReportAssets,
    images: ImageSource | None = None,
    evaluation: Evaluation | None = None,
) -> Report:
    """The report of an export, with its budgets checked. Raises InputError: it has no figure for a budget."""
    artifacts: list[ArtifactRecord] = [
        structs.replace(
            onnx_record(artifact.file, artifact.verdict),
            quantized=artifact.quality,
            quantization=artifact.quantization,
        )
        for artifact in proven
    ]
    artifacts += [engine_summary(engine.path.name, engine.record) for one in deployed for engine in one.engines]
    artifacts += [BundleRecord(b.name, sha256_of(b), b.stat().st_size) for one in deployed for b in one.bundles]
    report = report_of(job.model, artifacts, latency, assets, job.settings.command)
    return structs.replace(
        report, images=images, evaluation=evaluation, budgets=check_budgets(report, job.settings.budgets)
    )


def bench_report(benched: Benched, command: Sequence[str] | None = None) -> Report:
    """The report of a bench."""
    files = iter(benched.files)
    artifacts = [
        artifact_record(artifact, name, None if artifact.parsed is None else next(files))
        for artifact, name in zip(benched.artifacts, benched.names, strict=True)
    ]
    return report_of(benched.model, artifacts, benched.latency, benched.assets, command)


def report_of(
    model: LoadedModel | None,
    artifacts: Sequence[ArtifactRecord],
    latency: Latency,
    assets: ReportAssets,
    command: Sequence[str] | None,
    *,
    on_gpu: bool = False,
) -> Report:
    """A report of this moment and this machine. ``on_gpu`` is for artifacts that ran on a GPU without being timed."""
    return Report(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=tuple(command) if command else None,
        model=model_record(model) if model else None,
        artifacts=tuple(artifacts),
        latency=latency,
        environment=describe(with_gpus=on_gpu or any(timing.device != CPU for timing in latency.timings)),
        attention_cost=assets.costs,
        graphs=assets.graphs,
        gate_activations=assets.activations,
    )


def model_record(model: LoadedModel) -> ModelRecord:
    """The network, and how its checkpoint was read."""
    return ModelRecord(
        name=model.name,
        checkpoint=str(model.path) if model.path else None,
        sha256=model.sha256,
        architecture=model.architecture.to_dict() if model.architecture else None,
        inputs=tuple(map(input_record, model.inputs)),
        normalization=model.normalization,
        class_names=model.class_names,
        notes=model.notes,
        preprocessing=model.preprocessing,
        postprocessing=model.postprocessing,
    )


def input_record(taken: Input) -> InputRecord:
    """An input."""
    return InputRecord(taken.name, taken.dtype, taken.shape, taken.axes, taken.range)


def onnx_record(
    file: OnnxFile, verdict: Verdict | None, *, precision: str = "", findings: Validated | None = None
) -> OnnxRecord:
    """An ONNX file and its verdict."""
    signature, graph = file.signature, file.parsed.model.graph if file.parsed else None
    types = {str(v.name): str(v.dtype.numpy()) for v in (graph.inputs if graph else ()) if v.dtype}
    return OnnxRecord(
        path=file.name,
        precision=precision or file.precision.onnx_name,
        kept_in_float32=file.kept,
        sha256=sha256_of(file.path),
        opset=file.opset,
        nodes=file.nodes,
        inputs=tuple(structs.replace(input_record(i), dtype=types.get(i.name, i.dtype)) for i in signature.inputs),
        outputs=signature.output_names,
        gates=file.gates,
        cleanup=file.steps,
        attention=file.blocks,
        bytes=sum(path.stat().st_size for path in (file.path, external_data_of(file.path)) if path.exists()),
        validation=verdict,
        **_findings(findings),
    )


def engine_summary(
    name: str,
    record: EngineRecord,
    *,
    verdict: Verdict | None = None,
    not_run: str | None = None,
    findings: Validated | None = None,
) -> EngineSummary:
    """An engine, without what only its sidecar lists.

    Verdict and ``not_run`` are the sidecar's without findings of a validation.
    """
    kept = {field: getattr(record, field) for field in EngineSummary.__struct_fields__ if hasattr(record, field)}
    kept |= {"path": name, "precision": record.precision.requested, "types": record.precision}
    if findings:
        kept |= {"not_run": not_run, "validation": verdict, **_findings(findings)}
    return EngineSummary(**{**kept, "kernels": record.cost.kernels})


def _findings(found: Validated | None) -> dict[str, Any]:
    """The fields of `Findings` but for the verdict."""
    if found is None:
        return {}
    return {
        "notes": found.notes,
        "quantized": found.quality,
        "first_divergence": found.first_divergence,
        "error": ErrorRecord.of(found.error),
    }


def artifact_record(
    artifact: Artifact, name: str, file: OnnxFile | None, findings: Validated | None = None
) -> ArtifactRecord:
    """An artifact of any origin. ``file`` is None for an engine."""
    verdict = findings.verdict if findings else None
    if file is not None:
        return onnx_record(file, verdict, precision=artifact.quantized_type, findings=findings)
    assert artifact.sidecar is not None
    not_run = findings.error.message if findings and findings.error and not verdict else None
    return engine_summary(name, artifact.sidecar, verdict=verdict, not_run=not_run, findings=findings)


def clean_summary(result: CleanResult) -> CleanSummary:
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
    )


def validation_summary(
    model: LoadedModel,
    results: Sequence[Validated],
    images: ImageSource | None = None,
    evaluation: Evaluation | None = None,
) -> ValidationSummary:
    """What a validation against a checkpoint found out."""
    return ValidationSummary(
        model=model_record(model),
        agrees=all(result.error is None for result in results),
        artifacts=tuple(map(_validated_artifact, results)),
        images=images,
        evaluation=evaluation,
    )


def _validated_artifact(result: Validated) -> ValidatedArtifact:
    artifact = result.artifact
    return ValidatedArtifact(
        path=str(result.path),
        format=artifact.format if artifact else None,
        sha256=sha256_of(artifact.path) if artifact else None,
        precision=(artifact.quantized_type or artifact.precision.onnx_name) if artifact else None,
        source_sha256=(artifact.source_sha256 or None) if artifact else None,
        validation=result.verdict,
        **_findings(result),
    )


def bundle_validation(bundle: "Bundle", artifact: Path, verdict: Verdict) -> BundleValidation:
    """What a validation against a bundle's golden outputs found out."""
    return BundleValidation(
        bundle=BundleDescription(str(bundle.path), bundle.sha256, bundle.manifest.architecture),
        artifact=str(artifact),
        validation=verdict,
    )
