"""Precision: types of kernels, nodes kept in float32, and the growth of errors from one precision to the next."""

from collections.abc import Mapping, Sequence

from attn_export.exporter.artifacts import Float32Node
from attn_export.exporter.records.engine import PrecisionAudit
from attn_export.exporter.records.report import Report
from attn_export.exporter.records.verdict import Comparison
from attn_export.exporter.report.findings.errors import judged
from attn_export.exporter.report.findings.table import BAD, GOOD, UNSURE, Cell, Table, table
from attn_export.exporter.report.findings.words import counted, error, known, listed, times

NAMES = {"FLOAT": "float32", "HALF": "float16", "BFLOAT16": "bfloat16", "FLOAT8E4M3FN": "float8"}
MOST_GROWN = 5
# By artifact, then by tensor.
Errors = Mapping[str, Mapping[str, Comparison]]


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


def errors_by_tensor(report: Report) -> tuple[list[str], Errors]:
    """The tensors that all judged artifacts have in common, and the comparisons by artifact and tensor."""
    found = {artifact.path: {c.tensor: c for c in verdict.comparisons} for artifact, verdict in judged(report)}
    if not found:
        return [], {}
    first = next(iter(found.values()))
    return [tensor for tensor in first if all(tensor in other for other in found.values())], found


def precisions_judged(report: Report) -> list[str]:
    """The precisions of the validated artifacts, without repetition."""
    return list(dict.fromkeys(str(artifact.precision) for artifact, _ in judged(report)))


def growth_table(report: Report) -> Table:
    """The error of each tensor in each artifact, the most sensitive tensor first."""
    tensors, found = errors_by_tensor(report)
    heads = [head for name in found for head in (f"{name}: error", "error ratio")]
    rows = [
        [tensor, *(word for of in found.values() for word in (error(of[tensor].error), times(of[tensor].ratio)))]
        for tensor in sorted(tensors, key=lambda tensor: -growth(found, tensor))
    ]
    return table("Error of each tensor in each artifact", ["tensor", *heads], rows)


def growth(found: Errors, tensor: str) -> float:
    """The largest error of a tensor in any artifact; infinite where one is not a number."""
    errors = [known(of[tensor].error) for of in found.values()]
    return max(float("inf") if value is None else value for value in errors)


def growth_sentence(report: Report) -> str:
    """The most sensitive tensors."""
    tensors, found = errors_by_tensor(report)
    kinds = precisions_judged(report)
    if len(kinds) < 2 or not tensors:
        return f"Sensitivity needs two precisions: {f'only {kinds[0]}' if kinds else 'none'} was compared."
    most = sorted(tensors, key=lambda tensor: -growth(found, tensor))[:MOST_GROWN]
    return f"Most sensitive, by absolute error: {listed(most)}."
