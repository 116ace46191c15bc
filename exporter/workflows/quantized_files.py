"""Quantized files of an export: made of its float32 file, compared with that and with the network."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from attn_export.exporter.artifacts import AROUND, CPU, OnnxFile, Precision, Step, Target
from attn_export.exporter.errors import UsageError
from attn_export.exporter.precision.rounding import HALF_TYPES
from attn_export.exporter.records.results import Proven, Validated
from attn_export.exporter.records.verdict import Verdict
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.system.progress import Progress
from attn_export.exporter.validation.artifact import read_artifact
from attn_export.exporter.validation.matching import Match
from attn_export.exporter.workflows.compare_quantized import compare_quantized
from attn_export.exporter.workflows.export_job import ExportJob
from attn_export.exporter.workflows.settings import ExportSettings
from attn_export.exporter.workflows.subject import Subject

if TYPE_CHECKING:
    from attn_export.exporter.validation.reference import Reference


def check_precisions(settings: ExportSettings) -> None:
    """Refuse quantized precisions without images to choose ranges from, and options without use.

    Raises:
        UsageError: there are none, or no precision needs an option.
    """
    quantized = [precision for precision in settings.precisions if precision.is_quantized]
    if quantized and settings.calibration is None:
        raise UsageError(
            f"{quantized[0]} needs images to choose ranges from",
            hint="--calibration DIR: a folder with a hundred typical pictures, or an array of preprocessed ones.",
        )
    if settings.calibration is not None and not quantized:
        raise UsageError("--calibration is for int8 and fp8", hint="Add one of them to --precision, or leave it out.")
    if settings.native_io and not HALF_TYPES.keys() & set(settings.precisions):
        raise UsageError("--io native is for fp16 and bf16", hint="Add one of them to --precision, or leave it out.")
    if settings.around is not AROUND[0] and not quantized:
        raise UsageError("--around is for int8 and fp8", hint="Add one of them to --precision, or leave it out.")


def quantized_file(job: ExportJob, plain: OnnxFile, precision: Precision) -> Proven:
    """Quantize the float32 file and compare the result with the network.

    A graph for ONNX Runtime is quantized in its form, all others in TensorRT's. The reference has the baselines of the
    type around the quantized layers.

    Raises:
        DisagreementError: the file computes something else, or its quality doesn't suffice.
    """
    from attn_export.exporter.precision.int8.placement import Choices
    from attn_export.exporter.precision.int8.settings import QuantizeSettings
    from attn_export.exporter.workflows.quantize import quantize_file

    settings, threads, progress = job.settings, job.runtimes.threads, job.progress
    assert job.calibration is not None
    form = Target.ONNXRUNTIME if settings.target is Target.ONNXRUNTIME else Target.TENSORRT
    how = QuantizeSettings(Choices(form), precision=precision, around=settings.around, threads=threads)
    path = plain.path.with_name(f"{plain.path.stem}{precision.suffix}.onnx")
    record = quantize_file(plain.path, path, job.calibration, settings=how, progress=progress)
    found = compare_with_network(path, plain, job.reference, threads, progress)
    assert found.artifact is not None
    file = found.artifact.as_file(plain.signature, blocks=plain.blocks)
    step = Step(f"quantize to {precision.onnx_name}", plain.nodes, file.nodes)
    kept = record.kept if settings.around is AROUND[0] else record.float32
    file = replace(file, precision=precision, kept=kept, steps=(*plain.steps, step))
    return Proven(file, _verdict(found), found.quality, record)


def compare_with_network(
    path: Path, plain: OnnxFile, reference: "Reference", threads: int, progress: Progress
) -> Validated:
    """Compare a quantized file, or an engine beside its file, with the network.

    Raises:
        DisagreementError: it computes something else, or its quality doesn't suffice.
        RuntimeUnavailableError: it can't run.
    """
    match = Match(plain.signature, plain.signature.inputs, ())
    subject = Subject(read_artifact(path), match, Settings(threads, CPU), trust=False)
    found = compare_quantized(subject, reference, None, progress)
    if found.error is not None:
        raise found.error
    return found


def _verdict(found: Validated) -> Verdict:
    assert found.verdict is not None
    return found.verdict
