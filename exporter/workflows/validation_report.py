"""The report of a validation."""

from collections.abc import Sequence

from msgspec import structs

from attn_export.exporter.artifacts import OnnxFile
from attn_export.exporter.cleanup.inspect import blocks_of
from attn_export.exporter.records.gates import ENGINE_UNAVAILABLE
from attn_export.exporter.records.latency import Latency, Schedule
from attn_export.exporter.records.report import ArtifactRecord, Report
from attn_export.exporter.system.files import unique_names
from attn_export.exporter.system.machine import usable_cpu_numbers
from attn_export.exporter.system.progress import NullProgress, Progress
from attn_export.exporter.workflows.assets import show
from attn_export.exporter.workflows.record import artifact_record, report_of
from attn_export.exporter.workflows.settings import cpu_settings
from attn_export.exporter.workflows.validate import Validation


def report_of_validation(
    validation: Validation,
    *,
    threads: int | None = None,
    command: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Report:
    """The report of a validation, with the graphs and gate activations of its artifacts.

    Artifacts that can't be read or don't fit are left out; the first of the user's images shows the gates.
    """
    model, results, images = validation.model, validation.results, validation.images
    settings, names = cpu_settings(threads), unique_names([result.path for result in results])
    artifacts: list[ArtifactRecord] = []
    files: list[OnnxFile] = []
    unavailable: dict[str, str] = {}
    for result, name in zip(results, names, strict=True):
        artifact, file = result.artifact, None
        if artifact is None or result.signature is None:
            continue
        if artifact.parsed is None:
            unavailable[name] = ENGINE_UNAVAILABLE
        else:
            file = artifact.as_file(result.signature, blocks=blocks_of(artifact.parsed), label=name)
            files.append(file)
        artifacts.append(artifact_record(artifact, name, file, result))
    sample = images.load([0]) if images else None
    shown = show(model, files, settings, progress or NullProgress(), images=sample, unavailable=unavailable)
    latency = Latency(settings.threads, usable_cpu_numbers(), Schedule())
    report = report_of(model, artifacts, latency, shown, command, on_gpu=bool(unavailable))
    return structs.replace(report, images=images.source if images else None, evaluation=validation.evaluation)
