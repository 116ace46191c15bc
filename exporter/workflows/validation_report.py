"""The report of a validation."""

from collections.abc import Sequence

from attn_export.exporter.artifacts import LoadedModel
from attn_export.exporter.cleanup.inspect import blocks_of
from attn_export.exporter.network.images import Images
from attn_export.exporter.records.gates import ENGINE_UNAVAILABLE
from attn_export.exporter.records.latency import Latency, Schedule
from attn_export.exporter.records.report import Report
from attn_export.exporter.records.results import Validated
from attn_export.exporter.system.files import unique_names
from attn_export.exporter.system.machine import usable_cpu_numbers
from attn_export.exporter.system.progress import NullProgress, Progress
from attn_export.exporter.workflows.assets import show
from attn_export.exporter.workflows.record import artifact_record, report_of
from attn_export.exporter.workflows.settings import cpu_settings


def report_of_validation(
    model: LoadedModel,
    results: Sequence[Validated],
    *,
    threads: int | None = None,
    images: Images | None = None,
    command: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Report:
    """The report of a validation, with the graphs and gate activations of its artifacts.

    Args:
        model: the network.
        results: of `validate_artifacts`.
        threads: of every runtime; all usable CPUs if None.
        images: the user's, (N, C, H, W); the first one shows the gate activations.
        command: the command line, None for a call from Python.
        progress: receives stages and notes.
    """
    settings, names = cpu_settings(threads), unique_names([result.artifact.path for result in results])
    files = [
        result.artifact.as_file(result.signature, blocks=blocks_of(result.artifact.parsed), label=name)
        if result.artifact.parsed is not None
        else None
        for result, name in zip(results, names, strict=True)
    ]
    onnx = [file for file in files if file is not None]
    unavailable = {name: ENGINE_UNAVAILABLE for name, file in zip(names, files, strict=True) if file is None}
    shown = show(model, onnx, settings, progress or NullProgress(), images=images, unavailable=unavailable)
    artifacts = [
        artifact_record(result.artifact, name, file, result)
        for result, name, file in zip(results, names, files, strict=True)
    ]
    latency = Latency(settings.threads, usable_cpu_numbers(), Schedule())
    return report_of(model, artifacts, latency, shown, command, on_gpu=bool(unavailable))
