"""The record as tables for a terminal. Makes them; the command line prints them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text


def export_tables(record: dict[str, Any]) -> list[RenderableType]:
    """What an export found out: the file, the verdict, the latencies."""
    (artifact,) = record["artifacts"]
    parts: list[RenderableType] = [validation_table(artifact)]
    if record["latency"]["timings"]:
        parts += ["", latency_table(record["latency"]), latency_caption(record)]
    return parts


def table(title: str, *columns: str) -> Table:
    """A plain table: the first column to the left, numbers to the right."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, column in enumerate(columns):
        made.add_column(column, justify="right" if i else "left", style="" if i else "bold", no_wrap=True)
    return made


def validation_table(artifact: dict[str, Any]) -> Table:
    """The worst gate and the worst output, with error and yardstick."""
    validation = artifact["validation"]
    made = table("Against PyTorch in float64", "tensor", "error", "PyTorch float32", "ratio", "verdict")
    for role in ("gate", "output"):
        chosen = [c for c in validation["comparisons"] if c["role"] == role]
        if not chosen:
            continue
        worst = max(chosen, key=lambda c: float("inf") if c["ratio"] is None else c["ratio"])
        label = f"{len(chosen)} {role}{'s' if len(chosen) > 1 else ''}" + (
            f", worst {worst['tensor']}" if len(chosen) > 1 else ""
        )
        agrees = all(c["agrees"] for c in chosen)
        made.add_row(
            label,
            number(worst["error"]),
            number(worst["yardstick"]),
            "—" if worst["ratio"] is None else f"{worst['ratio']:.2f}",
            Text("agrees", "green") if agrees else Text("DISAGREES", "bold red"),
        )
    return made


def latency_table(latency: dict[str, Any]) -> Table:
    """One row for each runtime."""
    made = table("Latency", "runtime", "median ms", "p90", "p99", "images/s", "× eager", "ready after")
    for t in latency["timings"]:
        made.columns[5].header = f"× {t['baseline']}"
        made.add_row(
            t["runtime"],
            f"{t['median_ms']:.2f}",
            f"{t['p90_ms']:.2f}",
            f"{t['p99_ms']:.2f}",
            f"{t['images_per_second']:.1f}",
            f"{t['ratio']:.3f}",
            f"{t['open_seconds']:.1f} s",
        )
    return made


def latency_caption(record: dict[str, Any]) -> Text:
    """Under which conditions the latencies hold."""
    latency, environment = record["latency"], record["environment"]
    first = latency["timings"][0]
    return Text(
        f"batch {first['batch']}, threads: {latency['threads']}, {first['samples']} inferences each in turns, "
        f"{environment['cpu']}",
        style="dim",
    )


def export_summary(record: dict[str, Any], onnx: Path, report: Path) -> Text:
    """Where the results are."""
    (artifact,) = record["artifacts"]
    steps = artifact["cleanup"]
    nodes = f"{artifact['nodes']} nodes" + (f", {steps[0]['nodes_before']} as captured" if steps else "")
    return Text.assemble(
        "\n",
        (str(onnx), "bold"),
        f"  opset {artifact['opset']}, {nodes}, {artifact['precision']}\n",
        (str(report), "bold"),
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


def number(value: float | None) -> str:
    """An error, short."""
    return "not a number" if value is None else f"{value:.1e}"
