"""One job: a float32 ONNX file and calibration images to an int8 or float8 file, and its quality."""

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec

from attn_export.exporter.artifacts import ParsedFile, Precision, Target
from attn_export.exporter.cleanup.inspect import blocks_of
from attn_export.exporter.errors import DisagreementError
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.graph.read import parse
from attn_export.exporter.images.preprocessing import PictureOptions
from attn_export.exporter.images.read import Given, ImageSet
from attn_export.exporter.precision.float8 import float8_trial
from attn_export.exporter.precision.int8.choose import Trial, Work, choose
from attn_export.exporter.precision.int8.quality import compared
from attn_export.exporter.precision.int8.sensitivity import sensitivity
from attn_export.exporter.precision.int8.settings import QuantizeSettings
from attn_export.exporter.records.arrays import Arrays
from attn_export.exporter.records.document import compact
from attn_export.exporter.records.quantization import (
    Quantization,
    QuantizationStep,
)
from attn_export.exporter.records.verdict import QualityRequirement
from attn_export.exporter.system.files import sha256_of
from attn_export.exporter.system.generation import publish_together
from attn_export.exporter.system.machine import usable_cpus
from attn_export.exporter.system.progress import NullProgress, Progress
from attn_export.exporter.system.scratch import scratch_folder
from attn_export.exporter.validation.quantized import broken, with_default
from attn_export.exporter.workflows.quantize_graph import batched, prepared, refuse_form
from attn_export.exporter.workflows.quantize_record import digest_of, narrow_layers, record_of
from attn_export.exporter.workflows.quantize_search import Notes, searched
from attn_export.exporter.workflows.quantize_write import run_evaluated, run_plain, write_quantized
from attn_export.exporter.workflows.user_images import announced, images_for

QUANTIZATION_KEY = "attn_export.quantization"
MOST_CALIBRATION, MOST_HELD_OUT = 512, 2048  # more only take time and memory


def quantize_file(
    source: Path | str,
    out: Path | str,
    calibration: Given | ImageSet,
    *,
    held_out: Given | None = None,
    pictures: PictureOptions | None = None,
    settings: QuantizeSettings | None = None,
    progress: Progress | None = None,
) -> Quantization:
    """Quantize an ONNX file: ``quantize_file("model.onnx", "model.int8.onnx", "calibration.npz")``.

    Args:
        out: the int8 file; it appears when its quality suffices, or not at all.
        calibration: images, see `read_images`; at most `MOST_CALIBRATION` are used.
        held_out: other images, on which the quality is required instead.

    Returns:
        How it was quantized, and the quality; also in the file's metadata.

    Raises:
        UnreadableGraphError: the file isn't there, is damaged, or isn't valid ONNX.
        InputError: it can't be quantized, or the images don't fit.
        UsageError: an exclusion matches nothing, or the runtime has no kernels for the precision.
        DisagreementError: the quality is below what is required; nothing is written.
        OutputError: the result can't be written.
    """
    source, out, progress = Path(source), Path(out), progress or NullProgress()
    settings = settings or QuantizeSettings()
    refuse_form(settings)
    threads = settings.threads or usable_cpus()
    with progress.stage("Reading the graph"):
        parsed = parse(source)
        model = prepared(parsed, settings, progress)
        calibrated = images_for(model, calibration, pictures).spread(MOST_CALIBRATION)
        other = None if held_out is None else images_for(model, held_out, pictures).spread(MOST_HELD_OUT)
        for images in filter(None, (calibrated, other)):
            announced(images, progress)
        feeds, others = batched(model, calibrated), batched(model, other) if other else None
    work = Work(source.parent, blocks_of(parsed), feeds, threads, progress)
    if settings.precision is Precision.FP8:
        best, steps = float8_trial(ParsedFile(source, model), settings.choices, work), tuple[QuantizationStep, ...]()
    else:
        best, steps = choose(model, settings, work)
    wanted = settings.searched_for
    order = sensitivity(best, work) if settings.sensitivity and wanted is None else ()
    with scratch_folder(out.parent) as scratch:
        digest = _digest(source, feeds, others or (), settings)
        notes = Notes(out.with_name(f"{out.name}.search.json"), scratch, digest)
        if wanted is not None:
            judged, tried = others or feeds, scratch / "trial.onnx"

            def judge(trial: Trial) -> DisagreementError | None:
                write_quantized(trial, source, tried, settings, work)
                measured = compared(*(run_plain(path, judged, threads) for path in (source, tried)))
                return broken(wanted, measured, f"int8 with {len(trial.placement.kept)} layers in float32")

            best, order = searched(best, settings, work, judge, notes)
        if settings.choices.runtime is Target.TENSORRT and (note := narrow_layers(best.placement)):
            progress.note(note)
        record = record_of(best, steps, order, settings, feeds, calibrated.source)
        file = scratch / out.name
        with progress.stage(f"Writing the {settings.precision} graph, and running it"):
            float32 = write_quantized(best, source, file, settings, work)
            run = run_evaluated if settings.precision is Precision.FP8 else run_plain
            record = msgspec.structs.replace(
                record,
                float32=float32,
                quality=compared(run_plain(source, feeds, threads), run(file, feeds, threads)),
                held_out=compared(run_plain(source, others, threads), run(file, others, threads)) if others else None,
            )
            _refuse(record, settings.requirement, out)
        # The same file wherever the images are, and nobody's folders in it.
        named = msgspec.structs.replace(calibrated.source, path=Path(calibrated.source.path).name)
        kept = msgspec.structs.replace(record, source=named)
        onnx_file.add_metadata(file, {QUANTIZATION_KEY: compact(kept).decode()})
        publish_together(onnx_file.moves_of(file, out), scratch)
        notes.drop()
    return record


def _digest(source: Path, feeds: Sequence[Arrays], others: Sequence[Arrays], settings: QuantizeSettings) -> str:
    """Of all that decides how a search ends."""
    facts = (version("attn-export"), sha256_of(source), digest_of(feeds), digest_of(others), repr(settings))
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def _refuse(record: Quantization, requirement: QualityRequirement | None, out: Path) -> None:
    """Refuse a file whose quality is below the requirement, on other images if there are any."""
    error = broken(with_default(requirement), record.held_out or record.quality, str(out))
    if error is not None:
        known = [layer for layer in record.layers if layer.sqnr_db is not None]
        worst = sorted(known, key=lambda layer: layer.sqnr_db or 0.0)[:3]
        names = ", ".join(f"{layer.module_path or layer.node} ({layer.sqnr_db:.1f} dB)" for layer in worst)
        raise DisagreementError(error.message, hint=f"{error.hint} The worst layers: {names}.")
