"""The tables of a sweep."""

import csv
import io

from rich.text import Text

from attn_export.exporter.records.document import compact
from attn_export.exporter.records.sweep import Figures, PlannedSweep, Row, SweepReport
from attn_export.exporter.report.findings.table import BAD, GOOD, QUIET, UNSURE, Cell, Table, table
from attn_export.exporter.report.findings.words import column, milliseconds, seconds, shortened, shown, size
from attn_export.exporter.report.findings.words import error as format_error

COLUMNS = (
    *("model", "<precision", "<target", "batch", "<runtime"),
    *("median ms", "interval", "error", "SQNR dB", "size", "kernels", "<verdict"),
)
LONGEST = 80  # letters of a verdict; the files have all of a message
FIELDS = ("model", "precision", "target", "batch", "runtime", "status")


def plan_parts(planned: PlannedSweep) -> list[Table | Text]:
    """What ``--dry-run`` prints: a row for each cell before it is computed."""
    rows = [
        [str(each.cell), ", ".join(each.needs), ", ".join(each.nodes), "done" if each.done else "to do"]
        for each in planned.cells
    ]
    return [table("", ["cell", "<needs", "<can run on", "<state"], rows), *left_out(planned.left_out)]


def result_parts(report: SweepReport) -> list[Table | Text]:
    """What a sweep prints."""
    return [results_table(report), *left_out(report.left_out), Text(summary(report), "dim")]


def no_page(install: str) -> Text:
    """Why there is no page."""
    return Text(f"results.html isn't written: it needs matplotlib and Jinja2: {install}", "yellow")


def left_out(reasons: dict[str, int]) -> list[Text]:
    """``left out, 4 combinations: eager runs the checkpoint, which is fp32``."""
    return [Text(f"left out, {count} combinations: {reason}", "dim") for reason, count in reasons.items()]


def results_table(report: SweepReport) -> Table:
    """A row for each cell."""
    latencies = iter(column([row.latency_ms for row in report.rows if row.latency_ms is not None]))
    return table("", COLUMNS, [_row(row, next(latencies) if row.latency_ms is not None else "") for row in report.rows])


def _row(row: Row, latency: str) -> list[str | Cell]:
    ends = [milliseconds(end) for end in (row.latency_low_ms, row.latency_high_ms) if end is not None]
    return [
        *(row.model, row.precision, row.target, str(row.batch), row.runtime),
        latency,
        " to ".join(ends) if len(ends) == 2 else "",
        "" if row.error is None else format_error(row.error),
        "" if row.sqnr_db is None else f"{row.sqnr_db:.1f}",
        "" if row.bytes is None else size(row.bytes),
        "" if row.kernels is None else str(row.kernels),
        verdict(row),
    ]


def verdict(row: Row) -> Cell:
    """In a word or two, with the reason for what is missing."""
    if row.status == "bad":
        return Cell(shortened(f"disagrees: {row.message}", LONGEST), BAD)
    if row.status == "failed":
        return Cell(shortened(f"failed: {row.message}", LONGEST), BAD)
    itself = "the network itself" if row.runtime in ("eager", "compile") else ""
    words, mark = ("agrees", GOOD) if row.agrees else (itself, QUIET)
    if row.not_timed:  # what was compared is the ONNX file
        return Cell(f"{'the file agrees, ' if row.agrees else ''}not run: {row.not_timed}", UNSURE)
    return Cell(words or "not compared", mark)


def summary(report: SweepReport) -> str:
    """What was done, and how long it took."""
    words = f"{report.computed} jobs computed, {report.reused} reused"
    if not report.computed:
        return f"{words}: nothing was left to do"
    beside = max(0.0, report.seconds - report.work_seconds)
    return f"{words}: {seconds(report.work_seconds)} of work, {seconds(beside)} beside it"


def as_jsonl(report: SweepReport) -> str:
    """A JSON object for each cell, a line each."""
    return "".join(f"{compact(row).decode()}\n" for row in report.rows)


def as_csv(report: SweepReport) -> str:
    """A row for each cell below the names of the fields."""
    others = [name for name in Row.__struct_fields__ if name not in (*FIELDS, *Figures.__struct_fields__)]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    fields = (*FIELDS, *Figures.__struct_fields__, *others)
    writer.writerow(fields)
    writer.writerows([_plain(getattr(row, name)) for name in fields] for row in report.rows)
    return text.getvalue()


def _plain(value: object) -> object:
    """Text that no terminal obeys and no spreadsheet computes: ``=``, ``+``, ``-`` and ``@`` begin formulas."""
    if not isinstance(value, str):
        return value
    return f"'{shown(value)}" if value.startswith(("=", "+", "-", "@")) else shown(value)
