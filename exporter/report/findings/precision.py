"""Precision: types of kernels, nodes kept in float32, and the growth of errors from one precision to the next."""

from collections.abc import Sequence

from attn_export.exporter.artifacts import Float32Node
from attn_export.exporter.records.engine import PrecisionAudit
from attn_export.exporter.records.report import Report
from attn_export.exporter.report.findings.errors import judged
from attn_export.exporter.report.findings.table import BAD, GOOD, UNSURE, Cell, Table, table
from attn_export.exporter.report.findings.words import counted, error, known, listed, times

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


def kept_tables(report: Report) -> list[Table]:
    """One table for each artifact with nodes that stay in float32."""
    return [kept_table(a.kept_in_float32, a.path) for a in report.onnx_files if a.kept_in_float32]


def kept_table(kept: Sequence[Float32Node], name: str) -> Table:
    """The nodes that stay in float32, and why."""
    rows = [[node.node, node.op_type, node.module_path, node.reason] for node in kept]
    return table(f"Kept in float32 in {name}", ["node", "<operator", "<module", "<because"], rows)


def sensitivity_table(report: Report) -> Table | None:
    """The error of each tensor in each artifact, the most sensitive first; None unless two precisions were compared."""
    found = {artifact.path: {c.tensor: c for c in verdict.comparisons} for artifact, verdict in judged(report)}
    tensors = [tensor for tensor in next(iter(found.values()), ()) if all(tensor in of for of in found.values())]
    if len({str(artifact.precision) for artifact, _ in judged(report)}) < 2 or not tensors:
        return None

    def largest(tensor: str) -> float:
        """Infinite where an error is not a number."""
        values = [known(of[tensor].error) for of in found.values()]
        return max(float("inf") if value is None else value for value in values)

    tensors.sort(key=largest, reverse=True)
    heads = [head for name in found for head in (f"{name}: error", "error ratio")]
    rows = [
        [tensor, *(word for of in found.values() for word in (error(of[tensor].error), times(of[tensor].ratio)))]
        for tensor in tensors
    ]
    return table(f"Most sensitive, by absolute error: {listed(tensors[:MOST_GROWN])}", ["tensor", *heads], rows)
