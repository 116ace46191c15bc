"""How an artifact stands to a bundle's sample: as plain values, and as a table for a terminal."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from attn_export.exporter.report.tables import number, table


def judgement_table(record: dict[str, Any]) -> Table:
    """One row for each output and kind of image."""
    made = table(
        f"Against {record['reference']}", "output", "images", "error", "baseline", "ratio", "allowed", "verdict"
    )
    made.columns[1].justify = "left"
    for entry in record["outputs"]:
        made.add_row(
            Text(entry["output"]),
            entry["kind"],
            number(entry["error"]),
            number(entry["baseline"]),
            "—" if entry["ratio"] is None else f"{entry['ratio']:.2f}",
            f"{entry['allowed']:g}",
            Text("agrees", "green") if entry["agrees"] else Text("DISAGREES", "bold red"),
        )
    return made


def judgement_caption(record: dict[str, Any]) -> Text:
    """What ran, on what, and what the baseline is."""
    return Text(
        f"{record['runtime']}; batches of {_shapes(record['batches'])}; the baseline is {record['baseline']}",
        style="dim",
    )


def _shapes(shapes: Sequence[Sequence[int]]) -> str:
    return ", ".join("×".join(map(str, shape)) for shape in shapes)
