"""A comparison as a table, and as Markdown for a pull request."""

import io
import re
from typing import Any

import pytest
from rich.console import Console

from attn_export.exporter.budgets.parse import parse_budgets
from attn_export.exporter.records.compare import ComparisonReport
from attn_export.exporter.records.report import Report
from attn_export.exporter.report.markdown import render_comparison
from attn_export.exporter.report.terminal import comparison_parts, drawn
from tests.budgets.conftest import Compared
from tests.budgets.sample import (
    ENGINE,
    FILE,
    changed,
    sample_artifact,
    sample_report,
    sample_timing,
    sample_timings,
    scaled,
)

OLD = sample_report()


@pytest.fixture
def document(compared: Compared) -> Any:
    """``document(old, new, "latency=3")``: what the command prints."""

    def of(old: Report, new: Report, *budgets: str) -> ComparisonReport:
        return compared(old, new, budgets=parse_budgets(budgets, ("eager", "onnxruntime")))

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
    heads = "runtime of batch old ms new ms new / old interval × eager, new / old interval verdict decided"
    assert head.split() == heads.split()
    assert eager.split()[:6] == ["eager", "the", "module", "1", "10.004", "10.004"]
    assert eager.endswith("  baseline")
    assert "1.200" in file
    assert file.endswith("  slower, too much  by both")
    assert "99% intervals" in lines[4]
    assert "5% slower is allowed" in lines[4]


def test_the_decimal_points_stand_below_each_other(document: Any) -> None:
    eager = sample_timing("eager", 1234)
    wide = sample_report([eager, sample_timing("onnxruntime", 3, eager, artifact=FILE)])
    _, _, eager_line, file = printed(document(wide, wide))[:4]
    assert eager_line.index(".") == file.index(".", file.index(FILE) + len(FILE))


def test_several_devices_are_named(document: Any) -> None:
    eager = sample_timing("eager", 10)
    record = sample_report([eager, sample_timing("onnxruntime-cuda", 1, eager, artifact=FILE, device="cuda")])
    lines = printed(document(record, record))
    assert any(line.startswith("onnxruntime-cuda (cuda)") for line in lines)


def test_budgets_stand_below(document: Any) -> None:
    record = sample_report(artifacts=(sample_artifact(), ENGINE))
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
    found = document(OLD, scaled(OLD, 1.2, ["onnxruntime"]), "latency=2")
    markdown = render_comparison(found)
    assert markdown.startswith("### Too slow: cbam\\_resnet8\n")
    assert "--budget latency=2 is broken" in markdown
    rows = rows_of(markdown)
    assert {len(row) for row in rows[:4]} == {len(rows[0])}
    assert rows[3][:5] == ["onnxruntime", FILE, "1", "2.996", "3.595"]
    assert rows[-1][:2] == ["latency=2", "**✗ broken**"]


def test_markdown_of_what_is_fine_has_no_error(document: Any) -> None:
    markdown = render_comparison(document(OLD, sample_report(sample_timings(seed=7), model={"sha256": "e" * 64})))
    assert markdown.startswith("### Latency: ")
    assert "Too slow" not in markdown
    assert "- the weights changed" in markdown


def test_a_name_can_t_break_the_table(document: Any) -> None:
    name = "a|b\n*<script>_`.onnx"
    eager, file = sample_timings()
    record = sample_report([eager, changed(file, {"artifact": name})], artifacts=(sample_artifact(name),))
    markdown = render_comparison(document(record, record))
    rows = [line for line in markdown.splitlines() if line.startswith("| onnxruntime")]
    assert len(rows) == 1
    assert "a\\|b\N{REPLACEMENT CHARACTER}\\*&lt;script\\>\\_\\`.onnx" in rows[0]
    assert "<script>" not in markdown
