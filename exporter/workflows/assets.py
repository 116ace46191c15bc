"""Graphs, gate activations and the cost of attention, for reports."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from attn_export.exporter.artifacts import LoadedModel, OnnxFile
from attn_export.exporter.cleanup.inspect import outline_of
from attn_export.exporter.graph.read import parsed
from attn_export.exporter.records.arrays import Arrays
from attn_export.exporter.records.attention import AttentionCost
from attn_export.exporter.records.graphs import GraphOutlines, Outline
from attn_export.exporter.records.latency import Schedule
from attn_export.exporter.records.results import Deployed, Made, Proven, ReportAssets
from attn_export.exporter.runtimes import IN_EVALUATOR
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.system.progress import Progress

if TYPE_CHECKING:
    from attn_export.exporter.workflows.bench_inputs import BenchInput
    from attn_export.exporter.workflows.export_job import ExportJob

QUANTIZED = "what attention costs is not measured in a file that rounds to whole numbers"


def show(
    model: LoadedModel | None,
    files: Sequence[OnnxFile],
    settings: Settings,
    progress: Progress,
    *,
    before: Outline | None = None,
    images: Arrays | None = None,
    unavailable: Mapping[str, str] | None = None,
) -> ReportAssets:
    """Collect graphs and gate activations.

    ``images`` are the user's, (N, C, H, W), of which the first shows the gates; ``unavailable`` says why others have no
    gate activations.
    """
    with progress.stage("Drawing the graphs and the gates"):
        captured = before.record if before else None
        graphs = tuple(
            GraphOutlines(file.name, captured, outline_of(parsed(file).copy(), file.blocks).record) for file in files
        )
        if model is None:
            return ReportAssets(graphs)
        from attn_export.exporter.validation.gate_activations import capture_gates, sample_image

        sample = sample_image(model.inputs, images)
        return ReportAssets(graphs, capture_gates(model, files, sample, settings, unavailable).to_record())


def export_assets(
    job: "ExportJob", made: Made, proven: Sequence[Proven], deployed: Sequence[Deployed], images: Arrays | None
) -> ReportAssets:
    """Graphs, gate activations and costs of an export; empty if no report was asked for."""
    settings, own, progress = job.settings, job.runtimes, job.progress
    if not settings.show:
        return ReportAssets()
    from attn_export.exporter.latency.attention_cost.costs import attention_costs
    from attn_export.exporter.records.gates import ENGINE_UNAVAILABLE

    files = [artifact.file for artifact in proven]
    unavailable = {engine.path.name: ENGINE_UNAVAILABLE for one in deployed for engine in one.engines}
    assets = show(job.model, files, own, progress, before=made.before, images=images, unavailable=unavailable)
    if not settings.runtimes:
        return assets
    files = [f for f in files if f.precision not in IN_EVALUATOR and not f.precision.is_quantized]
    costs = attention_costs(files, settings.batch, own, settings.schedule, progress)
    return replace(assets, costs=costs)


def costs_of(
    inputs: "Sequence[BenchInput]", batch: int, settings: Settings, schedule: Schedule, progress: Progress
) -> tuple[AttentionCost, ...]:
    """The cost of attention in each ONNX file that has any, or why it isn't measured."""
    from attn_export.exporter.latency.attention_cost.costs import attention_costs
    from attn_export.exporter.records.attention import AttentionCost

    costs: list[AttentionCost] = []
    for entry in inputs:
        if entry.file is None:
            continue
        if not entry.artifact.quantized:
            costs += attention_costs([entry.file], batch, settings, schedule, progress)
        elif entry.file.blocks or entry.artifact.gates:
            costs.append(AttentionCost(entry.file.name, "onnxruntime", batch, missed=QUANTIZED))
    return tuple(costs)
