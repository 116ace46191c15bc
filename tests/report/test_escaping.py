"""Names come from other people's files: whatever they hold, it is text."""

import copy
import json
from functools import cache
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from attn_export.exporter.report import markdown
from attn_export.exporter.report.page.render import render
from tests.report import page
from tests.report.sample import Record, sample

HOSTILE = '<script>alert("1")</script>\' onload="x" & ]]> --> {{ 7*7 }} $\\frac{1}{0}$ %s {} `|` \x00\x1b[31m \u202e'


def renamed(value: Any, name: str) -> Any:
    """The record with every text that others chose replaced, such as paths, classes, operators and reasons."""
    chosen = {
        "name", "checkpoint", "path", "module_path", "tensor", "runtime", "artifact", "provenance", "kind", "reason",
        "governor", "cpu", "platform", "python", "timed", "budget", "unit", "not_run", "missed", "op_type", "node",
        "device", "baseline", "version", "why", "verdict", "state", "precision", "clock", "process", "role",
    }  # fmt: skip
    if isinstance(value, dict):
        return {
            key: name if key in chosen and isinstance(entry, str) else renamed(entry, name)
            for key, entry in value.items()
        }
    if isinstance(value, list):
        return [name if isinstance(entry, str) else renamed(entry, name) for entry in value]
    return value


@cache
def plain() -> Record:
    """Not to be changed."""
    return json.loads(json.dumps(sample(blocks=2, runtimes=("eager", "onnxruntime"), rounds=3)))


def check(html: str) -> page.Element:
    document = page.read(html)
    assert not document.find("script")
    assert not [e for e in document.walk() if any(name.startswith("on") for name in e.attributes)]
    assert "49" not in document.find("h1")[0].text
    return document


def test_a_hostile_name_is_text_everywhere() -> None:
    document = check(render(renamed(plain(), HOSTILE)))
    charts = document.find("svg")
    assert charts
    assert any("<script>" in chart.own_text for chart in charts), "escaped, not left out"
    assert any("<script>" in table.text for table in document.find("table"))


def test_keys_are_text_as_well() -> None:
    record = copy.deepcopy(plain())
    comparison = record["artifacts"][0]["validation"]["comparisons"][0]
    comparison["shapes"] = {HOSTILE: 1.0}
    record["gate_activations"]["gates"][0]["values"] = {
        HOSTILE: record["gate_activations"]["gates"][0]["values"]["PyTorch"]
    }
    record["gate_activations"]["gates"][0]["differences"] = {HOSTILE: 1.0}
    record["gate_activations"]["unavailable"] = {HOSTILE: HOSTILE}
    record["environment"]["packages"] = {HOSTILE: HOSTILE}
    record["command"] = [HOSTILE]
    check(render(record))


@settings(max_examples=12, deadline=None, phases=(Phase.explicit, Phase.generate))  # shrinking would take minutes
@given(name=st.text(max_size=40))
def test_any_name_gives_a_page_that_can_be_read_and_written(name: str) -> None:
    html = render(renamed(plain(), name))
    check(html)
    html.encode("utf-8")
    text = markdown.render(renamed(plain(), name))
    text.encode("utf-8")


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
    assert "<" not in spelled.replace("\\<", "")


def test_a_long_name_is_shortened_where_it_is_drawn_and_whole_in_the_numbers() -> None:
    name = "backbone." * 30 + "attention"
    record = renamed(plain(), name)
    document = check(render(record))
    drawn = [e.text for chart in document.find("svg") for e in chart.find("text")]
    assert max(len(text) for text in drawn) < 100
    assert any(name in cell.text for cell in document.find("th", scope="row"))
