"""Exports a network: to ONNX files and engines that are proven and timed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from attn_export.exporter.artifacts import INPUT_NAME, Input, LoadedModel, Signature
from attn_export.exporter.images.read import read_images
from attn_export.exporter.network.axes import opened
from attn_export.exporter.network.batches import MOST_REAL, batches
from attn_export.exporter.records.results import ExportResult
from attn_export.exporter.system.files import is_taken
from attn_export.exporter.system.progress import NullProgress, Progress
from attn_export.exporter.system.scratch import scratch_folder
from attn_export.exporter.workflows.assets import export_assets
from attn_export.exporter.workflows.evaluate import evaluate_files, labelled_images
from attn_export.exporter.workflows.export_engines import check_engines, deploy_all
from attn_export.exporter.workflows.export_job import ExportJob
from attn_export.exporter.workflows.onnx_files import make_onnx, prove_all
from attn_export.exporter.workflows.publish import publish_all, write_report
from attn_export.exporter.workflows.quantized_files import check_precisions
from attn_export.exporter.workflows.record import export_report
from attn_export.exporter.workflows.reference import reference_outputs
from attn_export.exporter.workflows.served import ServedOptions, as_served
from attn_export.exporter.workflows.settings import ExportSettings, runtime_settings
from attn_export.exporter.workflows.timing import time_all
from attn_export.exporter.workflows.user_images import STAND_INS, images_of, known_of

if TYPE_CHECKING:
    import torch
    from torch import nn


def export(
    module: "nn.Module | LoadedModel | Path | str",
    input_shape: "Sequence[int] | torch.Tensor | None" = None,
    out: Path | str = ".",
    *,
    inputs: Sequence[Input] = (),
    name: str = "model",
    served: ServedOptions | None = None,
    settings: ExportSettings | None = None,
    progress: Progress | None = None,
) -> ExportResult:
    """Export a live module: ``export(module, input_shape=(1, 3, 224, 224), out="build")``.

    Args:
        module: float32, on the CPU; its modes and weights are afterwards as they were. Or the path of a checkpoint, or
            what `load` returned.
        input_shape: (N, C, H, W) of its one input, or an example of it; N is the batch that is timed. A checkpoint may
            say it.
        inputs: instead, with N: several inputs, or one of another type, as ``[Input("image", (1, 3, 64, 64)), ...]``,
            called like ``forward``'s parameters.
        out: folder for ``<name>.onnx``, ``<name>.report.json`` and the other results; created if missing.
        name: stem of the files.
        served: preprocessing and postprocessing in the files, names of the classes.
        settings: see `ExportSettings`; its batch is taken from the inputs.

    Raises:
        AttnExportError: see `attn_export.exporter.errors`; no file is left behind.
    """
    from attn_export.exporter.checkpoint.live import shape_of
    from attn_export.exporter.checkpoint.load import model_of

    settings, progress = settings or ExportSettings(), progress or NullProgress()
    if input_shape is not None:
        inputs = (Input(INPUT_NAME, shape_of(input_shape)),)
    if inputs:
        settings = replace(settings, batch=inputs[0].shape[0])
    model = model_of(module, inputs)
    for note in model.notes:
        progress.note(note)
    return export_loaded(as_served(model, served or ServedOptions()), Path(out), name, settings, progress)


def export_loaded(
    model: LoadedModel, out: Path, stem: str, settings: ExportSettings, progress: Progress
) -> ExportResult:
    """Compute the reference, capture, clean, prove, build, time and write; nothing unproven ever has its final name.

    Raises:
        AttnExportError: see `attn_export.exporter.errors`; no file is left behind.
    """
    own = runtime_settings(settings.runtimes, settings.threads, settings.device)
    inputs = opened(model.inputs, settings.dynamic, settings.batch)
    judged = check_engines(inputs, settings, progress)
    check_precisions(settings)
    given = settings.calibration
    calibration = None if given is None else read_images(given, model.inputs, known_of(model, settings.pictures))
    labelled = labelled_images(model, settings.evaluation, settings.pictures, (), progress)
    real = images_of(model, settings.images, settings.pictures, progress, MOST_REAL)
    if real is None and calibration is not None:  # quantized files are judged on the user's images
        real = (labelled.images if labelled else calibration).spread(STAND_INS)
    pixels = real.all if real else None
    with scratch_folder(out) as scratch:
        is_taken(scratch / f"{stem}.report.json")  # the longest name: none that is too long is found after the work
        images = batches(inputs, judged, pixels)
        least = Signature(inputs, ()).least_batch
        reference = reference_outputs(model, images, settings.baselines, progress, least=least)
        job = ExportJob(model, scratch, stem, settings, own, reference, calibration, progress)
        made = make_onnx(job)
        proven = prove_all(job, made.file)
        deployed = deploy_all(job, proven)
        evaluation = evaluate_files(job, proven, labelled) if labelled else None
        latency = time_all(job, proven, deployed)
        assets = export_assets(job, made, proven, deployed, pixels)
        report = export_report(job, proven, deployed, latency, assets, real.source if real else None, evaluation)
        file = write_report(report, scratch / f"{stem}.report.json")
        published = publish_all([artifact.file.path for artifact in proven], deployed, out, scratch, report=file)
    return ExportResult(
        tuple(out / artifact.file.path.name for artifact in proven),
        out / file.name,
        tuple(artifact.verdict for artifact in proven),
        latency,
        report,
        published.engines,
        published.bundles,
        made.reverted,
    )
