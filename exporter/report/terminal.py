"""The record as tables for a terminal. Makes them; the command line prints them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from attn_export.exporter.report.attention_cost import attention_cost_tables
from attn_export.exporter.report.budgets import budgets_table
from attn_export.exporter.report.findings.engines import engines_table, failed_words
from attn_export.exporter.report.latency import latency_caption, latency_table
from attn_export.exporter.report.tables import number, table


def export_tables(record: dict[str, Any]) -> list[RenderableType]:
    """What an export found out: the file, the verdict, the latencies."""
    files = [artifact for artifact in record["artifacts"] if artifact["format"] == "onnx"]
    engines = [artifact for artifact in record["artifacts"] if artifact["format"] == "engine"]
    parts: list[RenderableType] = [validation_table(files)]
    if engines:
        parts += ["", engines_table(engines), *failed_words(engines)]
    return [*parts, *timing_tables(record)]


def timing_tables(record: dict[str, Any]) -> list[RenderableType]:
    """Latencies, what attention costs, and how both stand to budgets, as far as they are there."""
    parts: list[RenderableType] = []
    if record["latency"]["timings"]:
        parts += ["", latency_table(record["latency"]), latency_caption(record)]
    files = [artifact for artifact in record["artifacts"] if artifact["format"] == "onnx"]
    parts += attention_cost_tables(record["attention_cost"], named=len(files) > 1)
    if record["budgets"]:
        parts += ["", budgets_table(record["budgets"])]
    return parts


def bench_tables(record: dict[str, Any]) -> list[RenderableType]:
    """What a bench found out."""
    return timing_tables(record)[1:]


def validation_table(files: Sequence[dict[str, Any]]) -> Table:
    """For every file the worst gate and the worst output, with error and baseline."""
    made = table("Against PyTorch in float64", "tensor", "error", "PyTorch's own", "ratio", "verdict")
    for file in files:
        comparisons = file["validation"]["comparisons"]
        for role in ("gate", "output"):
            chosen = [c for c in comparisons if c["role"] == role]
            if not chosen:
                continue
            worst = max(chosen, key=lambda c: float("inf") if c["ratio"] is None else c["ratio"])
            label = f"{len(chosen)} {role}{'s' if len(chosen) > 1 else ''}" + (
                f", worst {worst['tensor']}" if len(chosen) > 1 else ""
            )
            agrees = all(c["agrees"] for c in chosen)
            made.add_row(
                f"{file['precision']}: {label}" if len(files) > 1 else label,
                number(worst["error"]),
                number(worst["baseline"]),
                "—" if worst["ratio"] is None else f"{worst['ratio']:.2f}",
                Text("agrees", "green") if agrees else Text("DISAGREES", "bold red"),
            )
    made.columns[2].header = f"PyTorch {files[0]['precision']}" if len(files) == 1 else "PyTorch's own"
    return made


def export_summary(record: dict[str, Any], folder: Path, reports: Sequence[Path]) -> Text:
    """Where the results are."""
    summary = Text("\n")
    for artifact in record["artifacts"]:
        summary.append(str(folder / artifact["path"]), "bold")
        summary.append(f"  {artifact_words(artifact)}\n")
    for report in reports:
        summary.append(str(report), "bold").append("\n")
    return summary


def artifact_words(artifact: dict[str, Any]) -> str:
    """What a file is, in half a line."""
    if artifact["format"] == "engine":
        backend = artifact["backend"]
        return f"{backend['name']} {backend['version']}, {artifact['bytes'] / 1e6:.1f} MB"
    if artifact["format"] == "bundle":
        return f"to be built on the device: attn-export build {artifact['path']}"
    steps, kept = artifact["cleanup"], artifact["kept_in_float32"]
    nodes = f"{artifact['nodes']} nodes" + (f", {steps[0]['nodes_before']} as captured" if steps else "")
    return f"opset {artifact['opset']}, {nodes}, {artifact['precision']}" + (
        f" ({len(kept)} nodes kept in float32)" if kept else ""
    )


def creation_summary(made: dict[str, Any]) -> Text:
    """What was created, and what can be done with it."""
    return Text.assemble(
        (made["path"], "bold"),
        f"  {made['architecture']['name']}, {made['parameters'] / 1e6:.2f} M parameters\n",
        (f"next: attn-export {made['path']} --onnx", "dim"),
    )


def models_table(rows: Iterable[dict[str, Any]]) -> Table:
    """The zoo: sizes, and what attention adds."""
    made = table("Networks", "name", "input", "parameters", "MACs", "attention adds", "")
    for row in rows:
        made.add_row(
            row["name"],
            "×".join(map(str, row["input_shape"])),
            f"{row['parameters'] / 1e6:.2f} M",
            f"{row['macs'] / 1e6:.1f} M",
            "" if row["added_parameters"] is None else f"{row['added_parameters']:+.2%} parameters",
            "" if row["added_macs"] is None else f"{row['added_macs']:+.2%} MACs",
        )
    return made
