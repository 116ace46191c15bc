"""Budgets as plain values, and as a table for a terminal."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from attn_export.exporter.report.tables import table

STYLES = {"kept": "green", "broken": "bold red", "can't tell": "yellow"}
HEADS = ("budget", "of", "ran in", "batch", "allowed", "value", "interval", "")


def budgets_table(budgets: Sequence[dict[str, Any]]) -> Table:
    """One row for each figure that a budget is about."""
    made = table("Budgets", *HEADS)
    for column in (1, 2, 7):
        made.columns[column].justify = "left"
    for entry in budgets:
        *cells, state = budget_row(entry)
        made.add_row(*map(Text, cells), Text(state, STYLES[entry["state"]]))
    return made


def budget_row(entry: dict[str, Any]) -> list[str]:
    """The cells of one figure, under `HEADS`."""
    unit, value, interval = entry["unit"], entry["value"], entry["interval"]
    return [
        entry["budget"],
        entry["artifact"] or "the module",
        entry["runtime"] or "—",
        "—" if entry["batch"] is None else str(entry["batch"]),
        f"{entry['limit']:.4g} {unit}",
        "—" if value is None else f"{value:.4g} {unit}",
        "" if interval is None else f"{interval[0]:.4g}–{interval[1]:.4g}",
        entry["state"] + (f": {entry['reason']}" if entry["reason"] else ""),
    ]
