"""What a record says about precision: what artifacts compute in, and how much each gate minds."""

from typing import Any

from attn_export.exporter.report.findings.errors import artifacts_of, judged
from attn_export.exporter.report.findings.table import BAD, GOOD, QUIET, UNSURE, Cell, Table, table
from attn_export.exporter.report.findings.words import counted, error, listed, times

NAMES = {"FLOAT": "float32", "HALF": "float16", "BFLOAT16": "bfloat16", "FLOAT8E4M3FN": "float8"}
MOST_GROWN = 5


def precision_table(record: dict[str, Any]) -> Table:
    """One row for each artifact but bundles."""
    rows: list[list[str | Cell]] = []
    for artifact in artifacts_of(record):
        if artifact["format"] == "bundle":
            continue
        kept = artifact.get("kept_in_float32") or []
        found, mark = kernel_types(artifact)
        rows.append(
            [
                artifact["path"],
                artifact.get("precision") or "as the graph says",
                counted(len(kept), "node") if kept else "",
                Cell(found, mark),
            ]
        )
    return table("What artifacts compute in", ["artifact", "<precision", "<kept in float32", "<types of kernels"], rows)


def kernel_types(artifact: dict[str, Any]) -> tuple[str, str]:
    """What an engine's kernels compute in, and whether that is what its graph says; empty for anything else."""
    types = artifact.get("types")
    if not types:
        return "", QUIET
    found = listed([NAMES.get(kind, kind.lower()) for kind in types["kernels"]])
    if not found:
        return "not known", UNSURE
    if types["mixed"]:
        return f"MIXED: {counted(len(types['mixed']), 'kernel')} in another type than the graph says ({found})", BAD
    return f"{found}, as the graph says", GOOD


def kept_tables(record: dict[str, Any]) -> list[Table]:
    """For each artifact with nodes that stay in float32, which and why."""
    return [
        table(
            f"Kept in float32 in {artifact['path']}",
            ["node", "<operator", "<module", "<because"],
            [[k["node"], k["op_type"], k["module_path"], k["reason"]] for k in artifact["kept_in_float32"]],
        )
        for artifact in artifacts_of(record)
        if artifact.get("kept_in_float32")
    ]


def errors_by_tensor(record: dict[str, Any]) -> tuple[list[str], dict[str, dict[str, dict[str, Any]]]]:
    """The tensors that every judged artifact was compared at, and by artifact their comparisons."""
    found = {a["path"]: {c["tensor"]: c for c in a["validation"]["comparisons"]} for a in judged(record)}
    if not found:
        return [], {}
    first = next(iter(found.values()))
    return [tensor for tensor in first if all(tensor in other for other in found.values())], found


def precisions_judged(record: dict[str, Any]) -> list[str]:
    """The precisions of the artifacts that were compared, without repetition."""
    return list(dict.fromkeys(str(artifact.get("precision")) for artifact in judged(record)))


def growth_table(record: dict[str, Any]) -> Table:
    """How each tensor's error grows from the first artifact to the others, the most sensitive first."""
    tensors, found = errors_by_tensor(record)
    names = list(found)
    ordered = sorted(tensors, key=lambda tensor: -growth(found, tensor))
    return table(
        "Error of each tensor in each artifact",
        ["tensor", *(head for name in names for head in (f"{name}: error", "× baseline"))],
        [
            [
                tensor,
                *(
                    entry
                    for name in names
                    for entry in (error(found[name][tensor]["error"]), times(found[name][tensor]["ratio"]))
                ),
            ]
            for tensor in ordered
        ],
    )


def growth(found: dict[str, dict[str, dict[str, Any]]], tensor: str) -> float:
    """The largest error of a tensor in any artifact; what is no number comes first."""
    errors = [of[tensor]["error"] for of in found.values()]
    return float("inf") if None in errors else max(errors)


def growth_sentence(record: dict[str, Any]) -> str:
    """Which tensors mind most."""
    tensors, found = errors_by_tensor(record)
    kinds = precisions_judged(record)
    if len(kinds) < 2 or not tensors:
        only = f"only {kinds[0]} was compared" if kinds else "nothing was compared"
        return f"How errors grow with a coarser precision isn't told: {only}."
    most = sorted(tensors, key=lambda tensor: -growth(found, tensor))[:MOST_GROWN]
    return f"Most sensitive, by absolute error: {listed(most)}."
