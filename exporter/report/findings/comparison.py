"""Two reports beside each other: as plain values, as a table for a terminal, and as Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from attn_export.exporter.report.budgets import HEADS as BUDGET_HEADS
from attn_export.exporter.report.budgets import budget_row, budgets_table
from attn_export.exporter.report.tables import table

STYLES = {"faster": "green", "slower": "yellow", "can't tell": "", "baseline": "dim", "not compared": "dim"}
WORDS = {"both": "by both", "ratio": "by the ratio", "latency": "by the latency", None: ""}


def comparison_parts(record: dict[str, Any]) -> list[RenderableType]:
    """Everything, for a terminal."""
    title = Text(f"{record['old']['path']} → {record['new']['path']}", style="bold")
    parts: list[RenderableType] = [title, comparison_table(record), comparison_caption(record)]
    if record["budgets"]:
        parts += ["", budgets_table(record["budgets"])]
    return parts


def heads(record: dict[str, Any]) -> list[str]:
    """Of the columns."""
    names = list(dict.fromkeys(pair["baseline"] for pair in record["pairs"] if pair["baseline"]))
    baseline = names[0] if len(names) == 1 else "baseline"
    return [
        *("runtime", "of", "batch", "old ms", "new ms", "new / old", "interval"),
        *(f"× {baseline}, new / old", "interval", "verdict", ""),
    ]


def rows(record: dict[str, Any]) -> Iterable[tuple[list[str], str]]:
    """The cells of each pair under `heads`, the last two being the verdict and what it rests on; and the verdict."""
    several = len({pair["device"] for pair in record["pairs"]}) > 1
    for pair in record["pairs"]:
        told = f"{pair['verdict']}, too much" if pair["broken"] else pair["verdict"]
        yield (
            [
                f"{pair['runtime']} ({pair['device']})" if several else pair["runtime"],
                pair["artifact"] or "the module",
                str(pair["batch"]),
                f"{pair['old_ms']:.3f}",
                f"{pair['new_ms']:.3f}",
                *_change_cells(pair["latency"]),
                *_change_cells(pair["ratio"]),
                told,
                WORDS[pair["decides"]],
            ],
            pair["verdict"],
        )


def _change_cells(change: dict[str, float] | None) -> tuple[str, str]:
    return ("—", "") if change is None else (f"{change['estimate']:.3f}", f"{change['low']:.3f}–{change['high']:.3f}")


def comparison_table(record: dict[str, Any]) -> Table:
    """One row for each pair."""
    made = table("", *heads(record))
    for column in (1, 9, 10):
        made.columns[column].justify = "left"
    broken = [pair["broken"] for pair in record["pairs"]]
    for (cells, verdict), too_slow in zip(rows(record), broken, strict=True):
        *numbers, told, why = cells
        style = "bold red" if too_slow else STYLES[verdict]
        made.add_row(*map(Text, numbers), Text(told, style), Text(why, "dim"))
    return made


def comparison_caption(record: dict[str, Any]) -> Text:
    """What the numbers are."""
    return Text(caption(record), style="dim")


def caption(record: dict[str, Any]) -> str:
    """What the numbers are, in a sentence."""
    return (
        f"above 1: takes longer than before; {record['confidence']:.0%} intervals; up to "
        f"{100 * record['slower_allowed']:.3g}% slower is allowed"
    )


def comparison_markdown(record: dict[str, Any]) -> str:
    """Everything, for a comment on a pull request."""
    error = record["error"]
    named = _escaped(record["new"]["model"] or record["new"]["path"])
    lines = [f"### {'Too slow' if error else 'Latency'}: {named}", ""]
    if error:
        lines += [f"**{_escaped(error['message'])}**", ""]
    lines += _markdown_table(heads(record), [cells for cells, _ in rows(record)])
    lines += ["", _escaped(caption(record)), ""]
    if record["budgets"]:
        lines += [*_markdown_table(BUDGET_HEADS, [budget_row(entry) for entry in record["budgets"]]), ""]
    lines += [f"- {_escaped(note)}" for note in record["notes"]]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    listed = [columns, ["---"] * len(columns), *cells]
    return ["| " + " | ".join(map(_escaped, row)) + " |" for row in listed]


def _escaped(text: str) -> str:
    """Words as they are, whatever names of files hold."""
    told = " ".join(text.split())
    for character in "\\`*_[]<>|":
        told = told.replace(character, f"\\{character}")
    return told
