"""TensorRT engines: facts, kernels, and the results of a build."""

from collections.abc import Sequence

from attn_export.exporter.records.engine import PORTABLE, EngineCost, EngineRecord, Range
from attn_export.exporter.records.report import EngineSummary
from attn_export.exporter.records.verdict import Verdict
from attn_export.exporter.report.findings.errors import verdict_cell
from attn_export.exporter.report.findings.precision import kernel_types
from attn_export.exporter.report.findings.table import QUIET, UNSURE, Cell, Table, table
from attn_export.exporter.report.findings.words import counted, shape, size

SHARED = "shared: kernels that also compute nodes outside of attention, such as the addition after it"


def facts_table(path: str, record: EngineRecord) -> Table:
    """One fact in a row."""
    backend, kernels, peak = record.backend, len(record.kernels.kernels), record.build.peak_bytes
    memory = f", {peak / 2**20:.0f} MiB" if peak else ""
    inputs: list[list[str | Cell]] = [[f"input {name}", _shapes(shapes)] for name, shapes in record.profile.items()]
    failed: list[list[str | Cell]] = [[f"not for {gpu}", Cell(why, UNSURE)] for gpu, why in record.failed.items()]
    rows: list[list[str | Cell]] = [
        ["built by", f"{backend.name} {backend.version}, {record.build.seconds:.1f} s{memory}"],
        ["for", f"{gpu_words(record.gpus)} on {record.platform}"],
        ["source", f"{record.onnx.path}, {record.onnx.sha256[:12]}"],
        ["precision", kernel_types(record.precision)],
        ["TF32", "allowed" if record.options.tf32 else "off"],
        *inputs,
        ["kernels", str(kernels) if kernels else "unknown"],
        ["size", size(record.bytes)],
        ["on the GPU", _run_cell(record.validation, record.not_run)],
        *failed,
    ]
    return table(path, ["", "<"], rows)


def _shapes(shapes: Range) -> str:
    spelled = [shape(dims) for dims in (shapes.min, shapes.opt, shapes.max)]
    return spelled[0] if len(set(spelled)) == 1 else f"{spelled[0]} to {spelled[2]}, tuned for {spelled[1]}"


def _run_cell(verdict: Verdict | None, not_run: str | None) -> Cell:
    return Cell(f"not run: {not_run or 'no reference'}", UNSURE) if verdict is None else verdict_cell(verdict.agrees)


def kernels_table(path: str, cost: EngineCost) -> Table:
    """The kernels of each attention block."""
    return table(
        f"Kernels of attention in {path}",
        ["module", "<kind", "kernels", "shared", "nodes", "weights", "activation bytes written"],
        [
            [
                block.module_path,
                Cell(block.kind, QUIET),
                str(block.kernels),
                str(block.shared or ""),
                str(block.fused_nodes),
                size(block.weights_bytes),
                "" if block.activation_bytes is None else size(block.activation_bytes),
            ]
            for block in cost.blocks
        ],
    )


def kernels_sentence(path: str, cost: EngineCost) -> str:
    """The kernels that attention adds to an engine."""
    kernels, added = cost.kernels, cost.added
    if kernels is None:
        return f"The number of kernels of {path} is unknown."
    if added is None:
        return f"{path} has {counted(kernels, 'kernel')}."
    return f"{path}: attention adds {counted(added, 'kernel')}: {kernels} instead of {kernels - added}."


def gpu_words(gpus: Sequence[str]) -> str:
    """The architectures."""
    return ", ".join("sm80 and later" if gpu == PORTABLE else gpu for gpu in gpus)


def engines_table(engines: Sequence[EngineSummary]) -> Table:
    """One row for each engine."""
    heads = ["file", "<for", "kernels", "attention adds", "<precision", "size", "<on the GPU"]
    rows: list[list[str | Cell]] = [
        [
            engine.path,
            gpu_words(engine.gpus),
            str(engine.cost.kernels or "unknown"),
            "" if engine.cost.added is None else str(engine.cost.added),
            kernel_types(engine.types),
            size(engine.bytes),
            _run_cell(engine.validation, engine.not_run),
        ]
        for engine in engines
    ]
    return table("Engines", heads, rows)
