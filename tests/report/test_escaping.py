"""Names come from other people's files: whatever they hold, it is text."""

from functools import cache
from typing import Any

import msgspec
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from attn_export.exporter.records.document import plain
from attn_export.exporter.records.report import Report
from attn_export.exporter.report import markdown
from attn_export.exporter.report.page.render import render
from tests.report import page
from tests.report.sample import changed, sample

HOSTILE = '<script>alert("1")</script>\' onload="x" & ]]> --> {{ 7*7 }} $\\frac{1}{0}$ %s {} `|` \x00\x1b[31m \u202e'
# Fields of free text, such as paths, classes, operators and reasons.
FREE = {
    "name", "checkpoint", "path", "module_path", "tensor", "runtime", "artifact", "provenance", "kind", "reason",
    "governor", "cpu", "platform", "python", "timed", "budget", "unit", "not_run", "missed", "op_type", "node",
    "device", "baseline", "version", "why", "precision", "clock", "process", "role",
}  # fmt: skip
FIXED = {"channel", "spatial"}


def renamed(report: Report, name: str) -> Report:
    """The report with another value in every field of free text."""

    def replaced(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: name if key in FREE and isinstance(entry, str) and entry not in FIXED else replaced(entry)
                for key, entry in value.items()
            }
        if isinstance(value, list):
            return [name if isinstance(entry, str) else replaced(entry) for entry in value]
        return value

    return msgspec.convert(replaced(plain(report)), Report)


@cache
def small() -> Report:
    return sample(blocks=2, runtimes=("eager", "onnxruntime"), rounds=3)


def check(html: str) -> page.Element:
    document = page.read(html)
    assert not document.find("script")
    assert not [e for e in document.walk() if any(name.startswith("on") for name in e.attributes)]
    assert "49" not in document.find("h1")[0].text
    return document


def test_a_hostile_name_is_text_everywhere() -> None:
    document = check(render(renamed(small(), HOSTILE)))
    charts = document.find("svg")
    assert charts
    assert any("<script>" in chart.own_text for chart in charts), "escaped, not left out"
    assert any("<script>" in table.text for table in document.find("table"))


def test_keys_are_text_as_well() -> None:
    gate = "gate_activations/gates/0"
    changes = {
        "artifacts/0/validation/comparisons/0/shapes": {HOSTILE: 1.0},
        f"{gate}/values": {HOSTILE: plain(small())["gate_activations"]["gates"][0]["values"]["PyTorch"]},
        f"{gate}/differences": {HOSTILE: 1.0},
        "gate_activations/unavailable": {HOSTILE: HOSTILE},
        "environment/packages": {HOSTILE: HOSTILE},
        "command": [HOSTILE],
    }
    check(render(changed(small(), changes)))


@settings(max_examples=12, deadline=None, phases=(Phase.explicit, Phase.generate))  # shrinking would take minutes
@given(name=st.text(max_size=40))
def test_any_name_gives_a_page_that_can_be_read_and_written(name: str) -> None:
    html = render(renamed(small(), name))
    check(html)
    html.encode("utf-8")
    text = markdown.render(renamed(small(), name))
    text.encode("utf-8")


def test_no_tag_is_in_markdown_not_even_behind_a_backslash_or_in_code() -> None:
    record = changed(renamed(small(), HOSTILE), {"command": ["attn-export", HOSTILE.replace("`", "")]})
    text = markdown.render(record)
    assert "&lt;script\\>" in text
    assert "<script" not in text


@settings(max_examples=300, deadline=None)
@given(name=st.text())
def test_any_text_stays_in_its_cell_of_a_markdown_table(name: str) -> None:
    spelled = markdown.escaped(name)
    assert "\n" not in spelled
    assert "\r" not in spelled
    position = -1
    while (position := spelled.find("|", position + 1)) >= 0:
        before = len(spelled[:position]) - len(spelled[:position].rstrip("\\"))
        assert before % 2 == 1, "a pipe that isn't escaped would begin a new cell"
    assert "<" not in spelled


def test_a_long_name_is_shortened_where_it_is_drawn_and_whole_in_the_numbers() -> None:
    name = "backbone." * 30 + "attention"
    record = renamed(small(), name)
    document = check(render(record))
    drawn = [e.text for chart in document.find("svg") for e in chart.find("text")]
    assert max(len(text) for text in drawn) < 100
    assert any(name in cell.text for cell in document.find("th", scope="row"))
