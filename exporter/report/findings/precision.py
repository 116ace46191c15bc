"""Precision: types of kernels, nodes kept in float32, and the growth of errors from one precision to the next."""

import math
from collections.abc import Sequence
from pathlib import Path

from attn_export.exporter.artifacts import Float32Node, Precision, Target
from attn_export.exporter.records.engine import PrecisionAudit
from attn_export.exporter.records.latency import Timing
from attn_export.exporter.records.report import EngineSummary, OnnxRecord, Report
from attn_export.exporter.records.verdict import Quality
from attn_export.exporter.report.findings.errors import judged, verdict_cell
from attn_export.exporter.report.findings.table import BAD, GOOD, UNSURE, Cell, Table, table
from attn_export.exporter.report.findings.words import counted, error, listed, milliseconds, size, speed, times

NAMES = {"FLOAT": "float32", "HALF": "float16", "BFLOAT16": "bfloat16", "FLOAT8E4M3FN": "float8"}
MOST_GROWN = 5


def kernel_types(types: PrecisionAudit) -> Cell:
    """The types of an engine's kernels, and whether they are those of its graph."""
    found = listed([NAMES.get(kind, kind.lower()) for kind in types.kernels])
    if not found:
        return Cell("types of kernels unknown", UNSURE)
    if types.mixed:
        count = counted(len(types.mixed), "kernel")
        return Cell(f"MIXED: {count} in another type than the graph says ({found})", BAD)
    return Cell(f"{found}, as the graph says", GOOD)


def kept_table(kept: Sequence[Float32Node], name: str) -> Table:
    """The nodes that stay in float32, and why."""
    rows = [[node.node, node.op_type, node.module_path, node.reason] for node in kept]
    return table(f"Kept in float32 in {name}", ["node", "<operator", "<module", "<because"], rows)


def side_by_side(report: Report) -> Table | None:
    """What each precision costs and gives; None for fewer than two."""
    rows = [_precision_row(report, file) for file in report.onnx_files]
    rows += [_tf32_row(engine) for engine in report.engines if engine.precision == Precision.TF32]
    heads = "file,<precision,size,nodes,error,SQNR,other top-1 class,top-1,<verdict,kernels"
    caption = "What each precision costs and gives"
    if any(_quality(file) for file in report.onnx_files):
        caption += " (int8 and fp8: on the calibration images; others: the worst of the test images)"
    return table(caption, [*heads.split(","), "median, ms", "<speed"], rows) if len(rows) > 1 else None


def _precision_row(report: Report, file: OnnxRecord) -> list[str | Cell]:
    verdict, worst = file.validation, _output_error(file)
    own = [engine for engine in report.engines if Path(engine.onnx.path).name == Path(file.path).name]
    kernels = dict.fromkeys(str(e.kernels) for e in own if e.kernels and e.precision != Precision.TF32)
    timing = next((timing for timing in report.latency.timings if timing.artifact == file.path), None)
    return [
        file.path,
        file.precision,
        "" if file.bytes is None else size(file.bytes),
        str(file.nodes),
        "" if worst is None else error(worst),
        "" if not worst else f"{-20 * math.log10(worst):.1f} dB",
        _other_classes(file),
        _top1(report, file),
        verdict_cell(bool(file.agrees)) if verdict else "",
        ", ".join(kernels),
        "" if timing is None else milliseconds(timing.median_ms),
        "" if timing is None else f"{speed(timing.ratio, timing.ratio_interval)[0]}× {timing.baseline}",
    ]


def _tf32_row(engine: EngineSummary) -> list[str | Cell]:
    verdict = engine.validation
    verdict_shown = verdict_cell(bool(engine.agrees)) if verdict else Cell("not run", UNSURE)
    kernels = str(engine.kernels) if engine.kernels else ""
    return [engine.path, "tf32", size(engine.bytes), "", "", "", "", "", verdict_shown, kernels, "", ""]


def _quality(file: OnnxRecord) -> Quality | None:
    """The quality of a quantized file on real images, if it was measured on any."""
    if file.quantization is None:
        return file.quantized
    return file.quantization.held_out or file.quantization.quality


def _top1(report: Report, file: OnnxRecord) -> str:
    results = report.evaluation.artifacts if report.evaluation else ()
    return next((f"{result.top1:.1%}" for result in results if result.artifact == file.path), "")


def _other_classes(file: OnnxRecord) -> str:
    quality, classes = _quality(file), file.validation.classes if file.validation else None
    if quality is not None:
        differ = None if quality.agreement is None else round((1 - quality.agreement) * quality.images)
        return "" if differ is None else f"{differ} of {quality.images}"
    return f"{classes.differ} of {classes.images}" if classes else ""


def _output_error(file: OnnxRecord) -> float | None:
    """The largest relative error of an output: over all images where it is quantized, else on the worst kind."""
    if (quality := _quality(file)) is not None:
        known_db = [value for value in quality.sqnr_db.values() if value is not None]
        return 10 ** (-min(known_db) / 20) if known_db else None
    errors = [c.error for c in file.validation.comparisons if c.role == "output"] if file.validation else []
    return max((value for value in errors if value is not None), default=None)


def advice(report: Report) -> list[str]:
    """Where a quantized file doesn't pay, as far as this run shows it."""
    found = []
    floats = {timing.runtime: timing for timing in report.latency.timings if timing.precision == "float32"}
    for file in report.onnx_files:
        if file.quantization is None:
            continue
        for timing in report.latency.timings:
            other = floats.get(timing.runtime)
            if timing.artifact == file.path and other is not None and timing.median_ms > other.median_ms:
                found.append(_slower(file, timing, other))
        for engine, other_engine in _engine_pairs(report, file):
            found.append(
                f"{engine.path} has {engine.kernels} kernels, {other_engine.path} {other_engine.kernels}: TensorRT "
                "scales and quantizes in kernels of their own, so time both on the GPU before you choose."
            )
    return found


def _slower(file: OnnxRecord, timing: Timing, other: Timing) -> str:
    words = f"{milliseconds(timing.median_ms)} ms against {milliseconds(other.median_ms)} ms"
    how = file.quantization
    tensorrt = how is not None and how.runtime != Target.ONNXRUNTIME
    hint = " It has TensorRT's form; --for onnxruntime writes the form that is fast there." if tensorrt else ""
    return f"{file.path} is slower than float32 in {timing.runtime} here ({words}).{hint}"


def _engine_pairs(report: Report, file: OnnxRecord) -> list[tuple[EngineSummary, EngineSummary]]:
    """Engines of a quantized file that have more kernels than the one of floats with the fewest."""
    quantized = file.quantization.precision if file.quantization else ""
    own = [engine for engine in report.engines if engine.kernels and engine.precision == quantized]
    floats = [e for e in report.engines if e.kernels and not Precision(e.precision or "fp32").is_quantized]
    least = min(floats, key=lambda engine: engine.kernels or 0, default=None)
    return [(e, least) for e in own if least is not None and (e.kernels or 0) > (least.kernels or 0)]


def sensitivity_table(report: Report) -> Table | None:
    """The error of each tensor in each artifact, the most sensitive first; None unless two precisions were compared."""
    found = {artifact.path: {c.tensor: c for c in verdict.comparisons} for artifact, verdict in judged(report)}
    tensors = [tensor for tensor in next(iter(found.values()), ()) if all(tensor in of for of in found.values())]
    if len({str(artifact.precision) for artifact, _ in judged(report)}) < 2 or not tensors:
        return None

    def largest(tensor: str) -> float:
        """Infinite where an error is not a number."""
        values = [of[tensor].error for of in found.values()]
        return max(float("inf") if value is None else value for value in values)

    tensors.sort(key=largest, reverse=True)
    heads = [head for name in found for head in (f"{name}: error", "error ratio")]
    rows = [
        [tensor, *(word for of in found.values() for word in (error(of[tensor].error), times(of[tensor].ratio)))]
        for tensor in tensors
    ]
    return table(f"Most sensitive, by absolute error: {listed(tensors[:MOST_GROWN])}", ["tensor", *heads], rows)
