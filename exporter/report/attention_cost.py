"""What attention costs as tables for a terminal."""

from collections.abc import Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from attn_export.exporter.report.findings.words import decimals, large, milliseconds, percent
from attn_export.exporter.report.latency import STYLES
from attn_export.exporter.report.tables import table

MOST_EXPENSIVE = 5


def attention_cost_tables(costs: Sequence[dict[str, Any]], *, named: bool) -> list[RenderableType]:
    """One row for each kind of block, what the network takes without them, and the most expensive ones.

    Args:
        costs: the record's ``attention_cost``; nothing where it is empty.
        named: whether files are named; one file needs no name.
    """
    parts: list[RenderableType] = []
    if any(cost["blocks"] for cost in costs):
        parts += ["", kinds_table(costs, named=named)]
    parts += ["", *(cost_words(cost, named=named) for cost in costs)] if costs else []
    for cost in costs:
        if len(cost["blocks"]) > 1:
            parts += ["", blocks_table(cost, named=named)]
    return parts


def kinds_table(costs: Sequence[dict[str, Any]], *, named: bool) -> Table:
    """What blocks of each kind take of the multiply-accumulates, and of the time of the runtime's kernels."""
    heads = ("kind", "blocks", "of the MACs", "of kernel time", "ms", "kernels")
    made = table("Attention", *(["file"] if named else []), *heads)
    made.columns[1 if named else 0].justify = "left"
    for cost in costs:
        for kind in dict.fromkeys(block["kind"] for block in cost["blocks"]):
            blocks = [block for block in cost["blocks"] if block["kind"] == kind]
            made.add_row(
                *([Text(cost["artifact"])] if named else []),
                kind,
                str(len(blocks)),
                macs_share(cost, blocks),
                percent(sum(block["share"] for block in blocks)),
                milliseconds(sum(block["ms"] for block in blocks)),
                str(sum(block["kernels"] for block in blocks)),
            )
    return made


def macs_share(cost: dict[str, Any], blocks: Sequence[dict[str, Any]]) -> str:
    """What blocks do of the network's multiply-accumulates; nothing where these weren't counted."""
    return percent(sum(block["macs"] for block in blocks) / cost["macs"]) if cost["macs"] else ""


def cost_words(cost: dict[str, Any], *, named: bool) -> Text:
    """``SE: 0.4 % of the MACs, 8 % of the kernels' time``, the network against its plain twin, and what isn't known."""
    said = Text(f"{cost['artifact']}: " if named else "")
    if cost["blocks"]:
        kinds = " and ".join(dict.fromkeys(block["kind"] for block in cost["blocks"]))
        macs = macs_share(cost, cost["blocks"])
        share = f"{percent(sum(block['share'] for block in cost['blocks']))} of the kernels' time"
        said.append(f"{kinds}: {macs} of the MACs, {share}. " if macs else f"{kinds}: {share}. ", "bold")
    if cost["ratio"] is not None:
        low, high = cost["ratio_interval"]
        places = decimals([cost["with_ms"], cost["without_ms"]])
        spent, plain = (milliseconds(cost[key], places) for key in ("with_ms", "without_ms"))
        said.append(f"With attention {spent} ms, without {plain}: {cost['ratio']:.3f} ({low:.3f}–{high:.3f}), ")
        said.append(cost["verdict"], STYLES.get(cost["verdict"], ""))
    elif cost["with_ms"] is not None:
        said.append(f"{milliseconds(cost['with_ms'])} ms")
    if cost["missed"]:
        said.append("\n" if len(said) else "").append(cost["missed"], "yellow")
    return said


def blocks_table(cost: dict[str, Any], *, named: bool) -> Table:
    """The blocks that take most of the time."""
    first = sorted(cost["blocks"], key=lambda block: -float(block["ms"]))[:MOST_EXPENSIVE]
    title = "Most expensive" + (f" in {cost['artifact']}" if named else "")
    made = table(title, "module", "kind", "channels", "MACs", "of kernel time", "ms", "kernels")
    made.columns[1].justify = "left"
    places = decimals(block["ms"] for block in first)
    for block in first:
        made.add_row(
            Text(block["module_path"]),
            block["kind"],
            "" if block["channels"] is None else str(block["channels"]),
            "" if block["macs"] is None else large(block["macs"]),
            percent(block["share"]),
            milliseconds(block["ms"], places),
            str(block["kernels"]),
        )
    return made
