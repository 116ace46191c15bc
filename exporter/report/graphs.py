"""What is known of a graph as tables for a terminal: its attention blocks, and what a cleanup did."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from attn_export.exporter.report.tables import number, table

if TYPE_CHECKING:
    from attn_export.exporter.artifacts import AttentionBlock
    from attn_export.exporter.records.cleanup import Cleaned
    from attn_export.exporter.records.results import CleanResult


def inventory_table(blocks: "Sequence[AttentionBlock]") -> RenderableType:
    """One row for each attention block, in the order in which they are computed."""
    if not blocks:
        return Text("no attention blocks\n")
    made = table("Attention", "module", "kind", "channels", "reduction", "kernel", "nodes before", "nodes")
    made.columns[1].justify = "left"
    for block in blocks:
        made.add_row(
            Text(block.place),
            Text(block.kind),
            *("" if value is None else str(value) for value in (block.channels, block.reduction, block.kernel)),
            str(block.nodes_before),
            str(len(block.nodes)),
        )
    return made


def explanation_tables(cleaned: "Cleaned") -> list[Table | str]:
    """How often each rule fired, and why it didn't where it nearly did."""
    fired = table("Rules", "rule", "fired", "largest difference, float64")
    for rule, count in Counter(firing.rule for firing in cleaned.applied).items():
        fired.add_row(rule, str(count), number(max(f.error for f in cleaned.applied if f.rule == rule)))
    parts: list[Table | str] = [fired if cleaned.applied else "No rule fired.", ""]
    reasons = Counter((miss.rule, miss.reason) for miss in cleaned.skipped)
    if reasons:
        missed = table("Not fired", "rule", "times", "first at", "because")
        for column in missed.columns[2:]:
            column.justify, column.no_wrap, column.overflow = "left", False, "fold"
        for (rule, reason), count in reasons.items():
            first = next(m.place for m in cleaned.skipped if (m.rule, m.reason) == (rule, reason))
            missed.add_row(rule, str(count), Text(first), Text(reason))
        parts += [missed, ""]
    if cleaned.reverted:
        reverted = table("RevertedRewrite: it would have changed the result", "rule", "difference", "allowed", "at")
        for entry in cleaned.reverted:
            reverted.add_row(entry.rule, number(entry.error), number(entry.limit), Text(entry.place))
        parts += [reverted, ""]
    return parts


def clean_summary(result: "CleanResult") -> Text:
    """Where the result is, and how it compares with its parent."""
    lineage = result.lineage
    verdict = (
        f"not compared with its parent as a whole: {lineage.missed}"
        if lineage.missed
        else f"differs from its parent by {number(lineage.error)} ({number(lineage.limit)} is allowed)"
    )
    return Text.assemble(
        "\n",
        (str(result.path), "bold"),
        f"  {result.nodes_before} → {result.nodes_after} nodes, {len(result.cleaned.applied)} rewrites, all proven; ",
        f"{verdict}\n",
    )
