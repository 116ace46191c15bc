"""A record may lack any part; the page then says so, and shows the others."""

import copy

import pytest

from attn_export.exporter.report.page.render import SECTIONS, render
from tests.report import page
from tests.report.page import Element
from tests.report.sample import Record, bare_sample, sample

SECTION_OF = {
    "latency": "latency",
    "error": "artifacts",
    "graph": "graphs",
    "gates": "gate_activations",
    "budgets": "budgets",
}
ALL = {"latency", "error", "graph", "attention", "gates", "precision", "budgets", "environment"}


def sections(document: Element) -> set[str]:
    return {e.attributes["id"] for e in document.find("section") if "id" in e.attributes} - {"missing"}


def missing(document: Element) -> dict[str, str]:
    terms, reasons = document.find("dl", class_="missing")[0].find("dt"), document.find("dd")
    return {term.text.lower(): reason.text for term, reason in zip(terms, reasons[-len(terms) :], strict=True)}


@pytest.fixture(scope="module")
def small() -> Record:
    return sample(blocks=2, rounds=4)


def test_a_full_record_has_every_section(full_document: Element) -> None:
    assert sections(full_document) == ALL
    assert not full_document.find("dl", class_="missing")
    assert len(SECTIONS) == len(ALL)


def test_a_bare_record_has_its_environment_only() -> None:
    document = page.read(render(bare_sample()))
    assert sections(document) == {"environment"}
    assert set(missing(document)) == ALL - {"environment"}
    assert all(missing(document).values())
    assert not document.find("svg")


@pytest.mark.parametrize("name", SECTION_OF)
def test_what_is_absent_is_named_and_the_rest_is_there(name: str, small: Record) -> None:
    record = copy.deepcopy(small)
    if name == "latency":
        record["latency"].update(runs=[], timings=[])
    elif name == "error":
        record["model"] = None
        for artifact in record["artifacts"]:
            artifact["validation"] = None
    else:
        record[SECTION_OF[name]] = None if name == "gates" else []
    document = page.read(render(record))
    assert sections(document) == ALL - {name}
    assert set(missing(document)) == {name}


@pytest.mark.parametrize("key", sorted(sample(blocks=1, rounds=2)))
def test_a_record_without_a_key_at_all_has_a_page(key: str, small: Record) -> None:
    """As an older version of this schema left it, or another command."""
    record = copy.deepcopy(small)
    del record[key]
    assert page.read(render(record)).find("h1")


def test_an_empty_record_has_a_page() -> None:
    assert page.read(render({})).find("h1")[0].text == "attn-export"


def test_what_no_machine_tells_is_left_out(small: Record) -> None:
    record = copy.deepcopy(small)
    conditions = record["latency"]["runs"][0]["conditions"]
    record["latency"]["runs"][0]["conditions"] = dict.fromkeys(conditions) | {"gpus": []}
    text = page.read(render(record)).text
    assert "None" not in text
    assert "load was" not in text


def test_attention_that_was_not_measured_is_still_listed(small: Record) -> None:
    document = page.read(render(small | {"attention_cost": []}))
    text = document.find("section", id="attention")[0].text
    assert "2 CBAM blocks; what they cost was not measured." in text
    assert "layer1.0.attention" in text


def test_a_cost_that_was_measured_in_part_says_why(small: Record) -> None:
    record = copy.deepcopy(small)
    cost = record["attention_cost"][0]
    told = {"artifact": "model.onnx", "runtime": "eager", "batch": 1, "blocks": [], "missed": "eager has no profiler"}
    record["attention_cost"] = [dict.fromkeys(cost) | told]
    text = page.read(render(record)).find("section", id="attention")[0].text
    assert "Eager has no profiler" in text
    assert "None" not in text


def test_a_graph_whose_state_before_is_not_known_is_shown_after(small: Record) -> None:
    record = copy.deepcopy(small)
    record["graphs"][0]["before"] = None
    section = page.read(render(record)).find("section", id="graph")[0]
    assert "After the cleanup" not in section.text
    assert "As captured" not in section.text
    assert "before and after" not in section.text
    assert "nodes" in [cell.text for cell in section.find("th")]
    assert not {"before", "after"} & {cell.text for cell in section.find("th")}


def test_a_graph_without_attention_is_shown_too(small: Record) -> None:
    record = copy.deepcopy(small)
    for outline in (record["graphs"][0]["before"], record["graphs"][0]["after"]):
        outline.update(blocks=[None] * len(outline["operators"]), inventory=[])
    record["artifacts"][0]["attention"] = []
    record["attention_cost"] = []
    document = page.read(render(record))
    assert "no attention blocks" in document.find("section", id="graph")[0].text
    assert missing(document)["attention"] == "No attention blocks were recognised."


def test_an_engine_that_was_not_run_says_why(full_document: Element) -> None:
    assert "not compared: no GPU" in full_document.find("section", id="error")[0].text


def test_gates_that_can_not_be_seen_are_named_with_the_reason(full_document: Element) -> None:
    text = full_document.find("section", id="gates")[0].text
    assert "The gates of model.engine can't be seen: more outputs would change which kernels it has." in text


def test_damaged_pictures_are_left_out(small: Record) -> None:
    record = copy.deepcopy(small)
    record["gate_activations"]["gates"][0]["values"]["PyTorch"] = "no base64"
    record["gate_activations"]["gates"][1]["values"] = {"PyTorch": "AAAA"}
    record["gate_activations"]["image"]["pixels"] = "AAAA"
    assert page.read(render(record)).find("section", id="gates")
