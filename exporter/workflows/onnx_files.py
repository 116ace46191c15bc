"""The ONNX files of an export: captured, cleaned, converted and proven."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np

from attn_export.exporter.artifacts import LoadedModel, OnnxFile, Precision
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.graph.outline import outline
from attn_export.exporter.graph.read import parse
from attn_export.exporter.network.batches import Batch
from attn_export.exporter.network.images import REAL
from attn_export.exporter.precision.rounding import HALF_TYPES
from attn_export.exporter.records.results import Made, Proven
from attn_export.exporter.system.memory import forget_weights, trim
from attn_export.exporter.system.packages import versions
from attn_export.exporter.validation.prove import prove
from attn_export.exporter.workflows.export_job import ExportJob
from attn_export.exporter.workflows.quantized_files import quantized_file


def make_onnx(job: ExportJob) -> Made:
    """Capture and clean a network, and free its weights. Raises CaptureError, CleanupError, OutputError."""
    path, settings = job.folder / f"{job.stem}.onnx", job.settings
    with job.progress.stage("Capturing with PyTorch's exporter"):
        from attn_export.exporter.network.capture import capture

        graph = capture(job.model, dynamic=settings.dynamic, batch=settings.batch, opset=settings.opset)
    with job.progress.stage("Cleaning the graph"):
        from attn_export.exporter.cleanup.pipeline import clean_graph

        before = outline(graph.model) if settings.show else None
        graph, cleaned = clean_graph(graph, settings.target)
        file = onnx_file.write(graph, path)
    forget_weights(graph.model)
    trim()
    before = before.marked(cleaned.blocks_before) if before else None
    return Made(replace(file, parsed=parse(path)), cleaned.reverted, before)


def prove_all(job: ExportJob, plain: OnnxFile) -> list[Proven]:
    """Convert the float32 file to each precision, prove the files, and write the verdicts into their metadata.

    The float32 file is always proven: its baseline error is small enough to show what float16 rounding would hide.

    Raises:
        DisagreementError: a file computes something else; the error names the first divergent tensor.
    """
    of_floats = {plain.precision: _proven(job, plain)}
    for precision in job.settings.files:
        if precision in HALF_TYPES:
            of_floats[precision] = _proven(job, _in_half(job, plain, precision))
            if precision is Precision.FP16 and (note := untried_range(job.model, job.reference.batches)):
                job.progress.note(note)
    for artifact in of_floats.values():
        onnx_file.add_metadata(artifact.file.path, _metadata(job.model, artifact))
    proven = []
    for precision in job.settings.files:
        if not precision.is_quantized:
            proven.append(of_floats[precision])
            continue
        found = quantized_file(job, plain, precision)
        onnx_file.add_metadata(found.file.path, _validation(found))  # the rest came with the float32 file
        proven.append(found)
    return proven


def _proven(job: ExportJob, file: OnnxFile) -> Proven:
    return Proven(file, prove(file, job.model, job.reference, job.runtimes, job.progress))


def _in_half(job: ExportJob, plain: OnnxFile, precision: Precision) -> OnnxFile:
    """The file in a type of 16 bits."""
    with job.progress.stage(f"Changing the graph to {precision}"):
        from attn_export.exporter.precision.typed_file import typed_file

        path = plain.path.with_name(f"{plain.path.stem}{precision.suffix}.onnx")
        images, threads = job.reference.batches, job.runtimes.threads
        return typed_file(plain, precision, images, path, threads, native_io=job.settings.native_io)


def untried_range(model: LoadedModel, batches: Sequence[Batch]) -> str:
    """A note on a float16 network that may take other images than were tried; empty where it is known what it takes."""
    known = model.normalization is not None or all(taken.range is not None for taken in model.inputs)
    if known or any(kind == REAL for batch in batches for kind in batch.kinds):
        return ""
    largest = max(float(np.abs(array).max()) for batch in batches for array in batch.arrays.values())
    return (
        f"float16 was tried on images with values up to {largest:.0f}; if the network takes others, such as pixels of "
        "0 to 255, name them with --images or --range, because squares and sums may overflow"
    )


def _metadata(model: LoadedModel, proven: Proven) -> dict[str, str]:
    """The ``metadata_props`` of an ONNX file: texts as they are, other values as JSON."""
    properties: dict[str, object] = {
        "architecture": model.architecture.to_dict() if model.architecture else model.name,
        "source_sha256": model.sha256,
        "normalization": asdict(model.normalization) if model.normalization else None,
        "preprocessing": asdict(model.preprocessing) if model.preprocessing else None,
        "postprocessing": asdict(model.postprocessing) if model.postprocessing else None,
        "class_names": model.class_names,
        "versions": versions(),
    }
    known = {
        f"attn_export.{key}": value if isinstance(value, str) else json.dumps(value)
        for key, value in properties.items()
        if value is not None
    }
    return known | _validation(proven)


def _validation(proven: Proven) -> dict[str, str]:
    verdict, worst = proven.verdict, proven.verdict.worst
    found = {
        "agrees": verdict.agrees,
        "runtime": verdict.runtime,
        "worst_tensor": worst.tensor,
        "error": worst.error,
        "baseline": worst.baseline,
        "ratio": worst.ratio,
    }
    return {"attn_export.validation": json.dumps(found)}
