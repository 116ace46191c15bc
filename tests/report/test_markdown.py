"""The report as a comment: the same findings, in tables that GitHub reads."""

import re

import pytest

from attn_export.exporter.records.report import Report
from attn_export.exporter.report.findings.table import Cell, table
from attn_export.exporter.report.markdown import render, table_text
from tests.report.sample import bare_sample

CELLS = re.compile(r"(?<!\\)\|")


def tables(text: str) -> list[list[str]]:
    found: list[list[str]] = []
    for paragraph in text.split("\n\n"):
        lines = paragraph.splitlines()
        if lines and lines[0].startswith("|"):
            found.append(lines)
    return found


def test_every_table_has_heads_a_rule_and_as_many_cells_in_each_row(record: Report) -> None:
    for lines in tables(render(record)):
        assert len(lines) > 2
        counts = {len(CELLS.findall(line)) for line in lines}
        assert len(counts) == 1
        assert re.fullmatch(r"\|( (:--|--:) \|)+", lines[1])
        assert lines[1].startswith("| :-- |")


def test_it_says_what_the_page_says(full_record: Report) -> None:
    text = render(full_record).replace("\N{NO-BREAK SPACE}", " ")
    for words in (
        "## model.pt",
        "**✓ Agrees**",
        "**✗ 1 of 2 broken**",
        "times as fast**",
        "compile against eager",
        "4 CBAM blocks: 0.4 % of the MACs, 8.0 % of the kernel time",
        "> - Batch 4: ",
        "| model.float16.onnx | ✓ agrees |",
        "attn-export model.pt --onnx --report report.html",
    ):
        assert words in text


def test_it_is_short_enough_for_a_comment(full_record: Report) -> None:
    assert len(render(full_record)) < 8000
    assert "rounds" not in render(full_record).replace("rounds of", "")


def test_what_is_absent_is_left_out() -> None:
    text = render(bare_sample())
    assert "###" not in text
    assert "None" not in text
    assert text.startswith("## attn-export")


@pytest.mark.parametrize("text", ["a|b", "a\\|b", "a`b", "<b>", "*a*", "line\nline", "~a~", "![x](y)"])
def test_what_markdown_would_read_as_its_own_is_text(text: str) -> None:
    (head, rule, row) = table_text(table("", ["name", "value"], [[text, Cell("1")]])).splitlines()
    assert len(CELLS.findall(re.sub(r"\\\\", "", row))) == 3
    assert head == "| name | value |"
    assert rule == "| :-- | --: |"
    assert not re.search(r"(?<!\\)[<*`~!\[]", re.sub(r"\\\\", "", row))
