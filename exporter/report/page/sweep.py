"""The page of a sweep: a table with links to the cells' reports, what failed, and what speed costs."""

from collections.abc import Sequence

from attn_export.exporter.records.sweep import Row, SweepReport
from attn_export.exporter.report.charts.svg import Chart
from attn_export.exporter.report.charts.tradeoff import tradeoff
from attn_export.exporter.report.findings.words import counted
from attn_export.exporter.report.page.render import page
from attn_export.exporter.report.sweep.table import results_table, summary


def render_sweep(report: SweepReport) -> str:
    """The page; equal reports give equal pages."""
    shown = results_table(report)
    return page(
        "sweep.html",
        title=counted(len(report.rows), "cell"),
        state=report.error.message if report.error else "All cells are good.",
        good=report.error is None,
        summary=summary(report),
        left_out=report.left_out,
        columns=shown.columns,
        lines=list(zip(shown.rows, [row.report for row in report.rows], strict=True)),
        failed=[row for row in report.rows if row.status != "good"],
        pairs=_charts(report.rows),
    )


def _charts(rows: Sequence[Row]) -> list[list[Chart]]:
    """Two charts for each target: latencies of different machines aren't compared."""
    pairs = []
    for index, target in enumerate(dict.fromkeys(row.target for row in rows)):
        own = [row for row in rows if row.target == target and row.status == "good"]
        made = (
            tradeoff(f"error-{index}", f"Latency and error on {target}", own, lambda row: row.error, "relative error"),
            tradeoff(f"size-{index}", f"Latency and size on {target}", own, lambda row: (row.bytes or 0) / 1e6, "MB"),
        )
        pairs.append([chart for chart in made if chart is not None])
    return [pair for pair in pairs if pair]
