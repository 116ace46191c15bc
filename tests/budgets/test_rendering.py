"""A comparison as a table, and as Markdown for a pull request."""

import io
import re
from typing import Any

import pytest
from rich.console import Console

from attn_export.exporter.budgets.check import check_budgets, failure
from attn_export.exporter.budgets.parse import parse_budgets
from attn_export.exporter.comparison.compare import comparison_report
from attn_export.exporter.records.compare import ComparisonReport
from attn_export.exporter.report.markdown import render_comparison as comparison_markdown
from attn_export.exporter.report.terminal import comparison_parts, drawn
from tests.budgets.conftest import Compared
from tests.budgets.sample import ENGINE, FILE, sample_artifact, sample_record, sample_timing, sample_timings, scaled

OLD = sample_record()


@pytest.fixture
def document(compared: Compared) -> Any:
    """``document(old, new, "latency=3")``: what the command prints."""

    def of(old: dict[str, Any], new: dict[str, Any], *budgets: str) -> ComparisonReport:
        found = compared(old, new)
        results = check_budgets(found.new.record, parse_budgets(budgets, ("eager", "onnxruntime")))
        return comparison_report(found, results, failure(results, found.broken))

    return of


def printed(document: ComparisonReport, width: int = 160) -> list[str]:
    console = Console(file=io.StringIO(), width=width, soft_wrap=True)
    for part in drawn(comparison_parts(document)):
        console.print(part)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_the_table_has_both_latencies_both_changes_and_what_decides(document: Any) -> None:
    lines = printed(document(OLD, scaled(OLD, 1.2, ["onnxruntime"])))
    assert "old.report.json → " in lines[0]
    head, eager, file = lines[1:4]
    assert head.split()[:2] == ["runtime", "of"]
    assert eager.split()[:6] == ["eager", "the", "module", "1", "10.004", "10.004"]
    assert "baseline" in eager
    assert "1.200" in file
    assert "slower, too much" in file
    assert "by both" in file
    assert "99% intervals" in lines[4]
    assert "5% slower is allowed" in lines[4]


def test_the_decimal_points_stand_below_each_other(document: Any) -> None:
    eager = sample_timing("eager", 1234)
    wide = sample_record([eager, sample_timing("onnxruntime", 3, eager, artifact=FILE)])
    _, _, eager_line, file = printed(document(wide, wide))[:4]
    assert eager_line.index(".") == file.index(".", file.index(FILE) + len(FILE))


def test_several_devices_are_named(document: Any) -> None:
    eager = sample_timing("eager", 10)
    record = sample_record([eager, sample_timing("onnxruntime-cuda", 1, eager, artifact=FILE, device="cuda")])
    lines = printed(document(record, record))
    assert any(line.startswith("onnxruntime-cuda (cuda)") for line in lines)


def test_budgets_stand_below(document: Any) -> None:
    record = sample_record(artifacts=[sample_artifact(), ENGINE])
    lines = printed(document(record, record, "latency=2", "drop=0"))
    at = lines.index("Budgets")
    states = [re.split(r"  +", line)[1] for line in lines[at + 2 : at + 5]]
    assert states == ["broken", "can't tell", "kept"]
    assert lines[at + 3].endswith("it wasn't timed")


def test_without_budgets_there_is_no_table_of_them(document: Any) -> None:
    assert "Budgets" not in printed(document(OLD, OLD))


def rows_of(markdown: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in markdown.splitlines() if "|" in line]


def test_markdown_has_the_same_and_the_error(document: Any) -> None:
    told = document(OLD, scaled(OLD, 1.2, ["onnxruntime"]), "latency=2")
    markdown = comparison_markdown(told)
    assert markdown.startswith("### Too slow: cbam\\_resnet8\n")
    assert "--budget latency=2 is broken" in markdown
    rows = rows_of(markdown)
    assert {len(row) for row in rows[:4]} == {len(rows[0])}
    assert rows[3][:5] == ["onnxruntime", FILE, "1", "2.996", "3.595"]
    assert rows[-1][:2] == ["latency=2", "**✗ broken**"]


def test_markdown_of_what_is_fine_has_no_error(document: Any) -> None:
    markdown = comparison_markdown(document(OLD, sample_record(sample_timings(seed=7), model={"sha256": "e" * 64})))
    assert markdown.startswith("### Latency: ")
    assert "Too slow" not in markdown
    assert "- the weights are others than before" in markdown


def test_a_name_can_t_break_the_table(document: Any) -> None:
    name = "a|b\n*<script>_`.onnx"
    timings = sample_timings()
    timings[1]["artifact"] = name
    record = sample_record(timings, artifacts=[sample_artifact(name)])
    markdown = comparison_markdown(document(record, record))
    rows = [line for line in markdown.splitlines() if line.startswith("| onnxruntime")]
    assert len(rows) == 1
    assert "a\\|b\N{REPLACEMENT CHARACTER}\\*\\<script\\>\\_\\`.onnx" in rows[0]
    assert "<script>" not in markdown
