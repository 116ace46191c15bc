"""The results of a sweep as files and as a page."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from attn_export.exporter.records.report import ErrorRecord
from attn_export.exporter.records.sweep import Figures, Outcome, Row, SweepReport
from attn_export.exporter.report.charts.tradeoff import front, tradeoff
from attn_export.exporter.report.page.sweep import render_sweep
from attn_export.exporter.report.sweep.live import SweepLines, SweepTable
from attn_export.exporter.report.sweep.table import as_csv, as_jsonl, result_parts, summary


def row(model: str = "net", runtime: str = "onnxruntime", latency: float | None = 1.0, **others: object) -> Row:
    known = {"precision": "fp32", "target": "cpu", "batch": 2, "status": "good", "agrees": True, "error": 1e-6}
    return Row(model=model, runtime=runtime, latency_ms=latency, **{**known, **others})  # type: ignore[arg-type]


ROWS = (
    row(latency=4.0, bytes=4_000_000, report="cells/ab/latency.report.json"),
    row(latency=2.0, precision="fp16", error=1e-3, bytes=2_000_000, report="cells/my cell/latency.report.json"),
    row("<b>bold</b>\x1b[2J", latency=None, status="failed", exit_code=5, message='no room, "really"', agrees=None),
    row("other", target="sm86", runtime="tensorrt-rtx", latency=None, kernels=30, not_timed="there is no GPU"),
)
ERROR = ErrorRecord("of 4 cells 1 failed", "Again.", 5)
REPORT = SweepReport(
    out="out",
    computed=3,
    reused=1,
    work_seconds=9.0,
    seconds=10.0,
    left_out={"eager is fp32": 2},
    rows=ROWS,
    error=ERROR,
)


def test_a_row_for_each_cell_in_csv_and_jsonl() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(REPORT))))
    assert [each["status"] for each in rows] == ["good", "good", "failed", "good"]
    assert rows[0]["latency_ms"] == "4.0"
    assert rows[2]["message"] == 'no room, "really"'
    assert rows[2]["latency_ms"] == ""
    lines = [json.loads(line) for line in as_jsonl(REPORT).splitlines()]
    assert [set(line) == set(Row.__struct_fields__) for line in lines] == [True] * 4
    assert lines[1]["error"] == 1e-3


def test_names_are_no_formulas_and_no_commands_in_csv() -> None:
    text = as_csv(replace(REPORT, rows=(row("=HYPERLINK(1)\x1b[2J", error=-1.0),)))
    (read,) = csv.DictReader(io.StringIO(text))
    assert read["model"] == "'=HYPERLINK(1)\N{REPLACEMENT CHARACTER}[2J"
    assert read["error"] == "-1.0"


def test_the_page_links_to_reports_and_names_failures_and_shows_no_markup_of_others() -> None:
    page = render_sweep(REPORT)
    assert 'href="cells/my%20cell/latency.report.json"' in page
    assert "<b>bold" not in page
    assert "\x1b" not in page
    assert "&lt;b&gt;bold" in page
    assert "What failed, and why" in page
    assert "the file agrees, not run: there is no GPU" in page
    assert "Latency and error on cpu" in page
    assert "on sm86" not in page.partition("<section")[0]  # nothing was timed there
    assert "<script" not in page
    assert render_sweep(REPORT) == page


def test_what_is_printed_says_what_it_cost() -> None:
    assert summary(REPORT).replace("\xa0", " ") == "3 jobs computed, 1 reused: 9.0 s of work, 1.0 s beside it"
    assert "left out, 2 combinations: eager is fp32" in [str(part) for part in result_parts(REPORT)]


@given(st.lists(st.tuples(st.floats(0.1, 9), st.floats(0.1, 9)), min_size=1, max_size=20))
def test_nothing_beats_the_front_and_the_front_beats_the_rest(values: list[tuple[float, float]]) -> None:
    points = [(x, y, row()) for x, y in values]
    best = {(x, y) for x, y, _ in front(points)}
    for x, y in values:
        beaten = any(a <= x and b <= y and (a, b) != (x, y) for a, b in values)
        assert ((x, y) in best) == (not beaten)


@pytest.mark.parametrize("rows", [(), ROWS[:1], (row(latency=None), row(error=None))])
def test_fewer_than_two_points_are_no_chart(rows: tuple[Row, ...]) -> None:
    assert tradeoff("x", "title", rows, lambda each: each.error, "error") is None


def test_a_chart_takes_names_of_any_form() -> None:
    rows = [row("$x$ & <y>", latency=1.0), row("_z", latency=5.0, error=0.1)]
    chart = tradeoff("x", "title", rows, lambda each: each.error, "error")
    assert chart is not None
    assert "&lt;y&gt;" in chart.svg
    assert "on the line" in {cell.text for line in chart.data.rows for cell in line}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def outcomes() -> list[Outcome]:
    good = Outcome(key="a", name="net \x1b[2J", figures=Figures(latency_ms=1.5), seconds=0.5)
    return [good, Outcome(key="b", name="other", figures=Figures(), error=ERROR)]


@pytest.mark.parametrize("kind", [SweepLines, SweepTable])
def test_what_is_shown_while_it_runs(
    kind: type[SweepLines] | type[SweepTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal() if kind is SweepTable else io.StringIO()
    with kind(stream) as shown:
        shown.begin(3, 1)
        shown.started("net", "here")
        shown.lost("net", "here")
        for outcome in outcomes():
            shown.finished(outcome)
    text = stream.getvalue()
    assert "net: here was lost, it runs again elsewhere" in text
    assert "\x1b[2J" not in text
    if kind is SweepLines:
        assert text.splitlines()[0] == "3 jobs, 1 of them done before"
        assert text.splitlines()[-1] == "3/3 other: of 4 cells 1 failed (0.00\xa0s)"
    else:
        assert "3 of 3 jobs, 1 failed" in text
