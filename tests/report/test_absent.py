"""A report may lack any optional part; the page then says so, and shows the others."""

import base64
import math
from typing import Any

import pytest

from attn_export.exporter.records.attention import AttentionCost
from attn_export.exporter.records.latency import Conditions
from attn_export.exporter.records.report import Report
from attn_export.exporter.report.findings.gates import gates_of, image_of
from attn_export.exporter.report.page.render import render
from attn_export.exporter.report.page.sections import SECTIONS
from tests.report import page
from tests.report.page import Element
from tests.report.sample import bare_sample, changed, sample

ABSENT: dict[str, dict[str, Any]] = {
    "latency": {"latency/runs": [], "latency/timings": []},
    "error": {"model": None, "artifacts/0/validation": None},
    "graph": {"graphs": []},
    "gates": {"gate_activations": None},
    "budgets": {"budgets": []},
    "accuracy": {"evaluation": None},
}
ALL = {"latency", "error", "graph", "attention", "gates", "accuracy", "budgets", "environment"}


def sections(document: Element) -> set[str]:
    return {e.attributes["id"] for e in document.find("section") if "id" in e.attributes} - {"missing"}


def missing(document: Element) -> dict[str, str]:
    terms, reasons = document.find("dl", class_="missing")[0].find("dt"), document.find("dd")
    return {term.text.lower(): reason.text for term, reason in zip(terms, reasons[-len(terms) :], strict=True)}


def section(report: Report, name: str) -> Element:
    return page.read(render(report)).find("section", id=name)[0]


@pytest.fixture(scope="module")
def small() -> Report:
    return sample(blocks=2, rounds=4)


def test_a_full_report_has_every_section(full_document: Element) -> None:
    assert sections(full_document) == ALL
    assert not full_document.find("dl", class_="missing")
    assert len(SECTIONS) == len(ALL)


def test_a_bare_report_has_its_environment_only() -> None:
    document = page.read(render(bare_sample()))
    assert sections(document) == {"environment"}
    assert set(missing(document)) == ALL - {"environment"}
    assert all(missing(document).values())
    assert not document.find("svg")


@pytest.mark.parametrize("name", ABSENT)
def test_what_is_absent_is_named_and_the_rest_is_there(name: str, small: Report) -> None:
    document = page.read(render(changed(small, ABSENT[name])))
    assert sections(document) == ALL - {name}
    assert set(missing(document)) == {name}


def test_unknown_conditions_are_left_out(small: Report) -> None:
    text = page.read(render(changed(small, {"latency/runs/0/conditions": Conditions()}))).text
    assert "None" not in text
    assert "load was" not in text


def test_attention_that_was_not_measured_is_still_listed(small: Report) -> None:
    text = section(changed(small, {"attention_cost": []}), "attention").text
    assert "2 CBAM blocks; the cost was not measured." in text
    assert "layer1.0.attention" in text


def test_a_cost_that_was_measured_in_part_says_why(small: Report) -> None:
    cost = AttentionCost("model.onnx", "eager", 1, missed="eager has no profiler")
    text = section(changed(small, {"attention_cost": [cost]}), "attention").text
    assert "Eager has no profiler" in text
    assert "None" not in text


def test_a_graph_whose_state_before_is_not_known_is_shown_after(small: Report) -> None:
    graph = section(changed(small, {"graphs/0/before": None}), "graph")
    assert "After the cleanup" not in graph.text
    assert "As captured" not in graph.text
    assert "before and after" not in graph.text
    assert "nodes" in [cell.text for cell in graph.find("th")]
    assert not {"before", "after"} & {cell.text for cell in graph.find("th")}


def test_a_graph_without_attention_is_shown_too(small: Report) -> None:
    plain: dict[str, Any] = {"artifacts/0/attention": [], "attention_cost": []}
    for state, outline in (("before", small.graphs[0].before), ("after", small.graphs[0].after)):
        assert outline is not None
        plain[f"graphs/0/{state}/blocks"] = [None] * len(outline.operators)
        plain[f"graphs/0/{state}/inventory"] = []
    document = page.read(render(changed(small, plain)))
    assert "no attention blocks" in document.find("section", id="graph")[0].text
    assert missing(document)["attention"] == "No attention blocks were recognised."


def test_an_engine_that_was_not_run_says_why(full_document: Element) -> None:
    assert "not compared: no GPU" in full_document.find("section", id="error")[0].text


def test_missing_gate_activations_are_named_with_the_reason(full_document: Element) -> None:
    text = full_document.find("section", id="gates")[0].text
    assert "model.engine" in text
    assert "more outputs would change which kernels it has" in text


def test_damaged_pictures_are_left_out(small: Report) -> None:
    damaged = {
        "gate_activations/gates/0/values/PyTorch": "no base64",
        "gate_activations/gates/1/values": {"PyTorch": "AAAA"},
        "gate_activations/image/pixels": "AAAA",
    }
    assert section(changed(small, damaged), "gates")


@pytest.mark.parametrize("shape", [(), (0,), (4,), (-2, -2), (2, 2, 2), (4, -1, -1)], ids=str)
def test_pictures_of_impossible_shapes_are_left_out(shape: tuple[int, ...], small: Report) -> None:
    data = base64.b64encode(bytes(abs(math.prod(shape)))).decode()
    damaged = {
        **{f"gate_activations/gates/1/{name}": value for name, value in (("shape", shape), ("kind", "spatial"))},
        "gate_activations/gates/1/values": {"PyTorch": data},
        "gate_activations/image": {"kind": "real", "shape": (1, -2, -2), "channels": 1, "pixels": "AAAAAA=="},
    }
    record = changed(small, damaged)
    assert len(gates_of(record)) == len(gates_of(small)) - 1
    assert image_of(record) is None
