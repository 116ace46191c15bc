"""What every page has to be: one file, in order, and readable without eyes, mouse, colour or network."""

import re
from itertools import pairwise

from msgspec.structs import replace

from attn_export.exporter.records.latency import Conditions
from attn_export.exporter.records.report import Report
from attn_export.exporter.records.timing_warnings import latency_warnings
from attn_export.exporter.report.page.render import render
from tests.report import page
from tests.report.page import Element
from tests.report.sample import changed, engine, sample

LARGEST = 2_000_000


def test_it_is_a_page_in_english_with_a_title(html: str, document: Element) -> None:
    assert html.lstrip().startswith("<!doctype html>")
    (root,) = document.find("html")
    assert root.attributes["lang"] == "en"
    assert document.find("meta", charset="utf-8")
    assert document.find("meta", name="viewport")
    (title, *_) = (e for e in document.find("title") if e.parent and e.parent.tag == "head")
    assert "attn-export report" in title.own_text


def test_nothing_comes_from_outside(html: str, document: Element) -> None:
    outside = re.compile(r"https?://|@import|url\(|<script|<link|<iframe|<object|javascript:", re.IGNORECASE)
    assert not outside.search(html)
    assert all(e.attributes["src"].startswith("data:image/png;base64,") for e in document.find("img"))
    (policy,) = (m for m in document.find("meta") if m.attributes.get("http-equiv") == "Content-Security-Policy")
    assert policy.attributes["content"].startswith("default-src 'none'")


def test_every_identifier_is_there_once_and_every_reference_leads_to_one(document: Element) -> None:
    names = [e.attributes["id"] for e in document.walk() if "id" in e.attributes]
    assert len(set(names)) == len(names)
    wanted = [e.attributes["href"][1:] for e in document.walk() if e.attributes.get("href", "").startswith("#")]
    wanted += [name for e in document.walk() for name in e.attributes.get("aria-labelledby", "").split()]
    assert wanted
    assert set(wanted) <= set(names)


def test_headings_descend_one_by_one(document: Element) -> None:
    levels = [int(e.tag[1]) for e in document.walk() if re.fullmatch(r"h[1-6]", e.tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_keyboard_finds_the_content_first(document: Element) -> None:
    links = document.find("a")
    assert links[0].attributes == {"class": "skip", "href": "#content"}
    (main,) = document.find("main")
    assert main.attributes["id"] == "content"


def test_tables_name_their_columns_and_rows(document: Element) -> None:
    tables = document.find("table")
    assert tables
    for table in tables:
        (caption,) = table.find("caption")
        assert caption.text
        heads = table.find("th", scope="col")
        rows = [row for row in table.find("tr") if row.parent and row.parent.tag == "tbody"]
        assert all(head.text for head in heads)
        assert rows
        for row in rows:
            assert len(row.find("th", scope="row")) == 1
            assert len(row.find("td")) == len(heads) - 1


def test_a_table_scrolls_in_its_own_container(document: Element) -> None:
    for table in document.find("table"):
        assert table.within(lambda e: "scroll" in e.attributes.get("class", "").split())


def test_every_chart_says_in_words_what_it_shows(full_document: Element) -> None:
    charts = full_document.find("svg")
    assert len(charts) > 5
    for chart in charts:
        assert chart.attributes["role"] == "img"
        title, finding = (
            next(e for e in chart.walk() if e.attributes.get("id") == name)
            for name in chart.attributes["aria-labelledby"].split()
        )
        assert (title.tag, finding.tag) == ("title", "desc")
        assert len(title.own_text) > 5
        assert len(finding.own_text) > 20


def test_every_chart_has_its_numbers_beside_it(full_document: Element) -> None:
    for figure in full_document.find("figure"):
        if not figure.find("svg"):
            continue
        (details,) = figure.find("details", class_="data")
        assert details.find("summary")[0].text.startswith("In words and numbers")
        assert details.find("td")
        assert "open" not in details.attributes


def test_every_picture_has_a_text(full_document: Element) -> None:
    pictures = full_document.find("img")
    # The image, twice; two gates of four blocks, in PyTorch and two files; one that is answered otherwise.
    assert len(pictures) == 2 + 8 * 3 + 1
    assert all(len(picture.attributes["alt"]) > 10 for picture in pictures)


def test_a_verdict_is_reported_by_more_than_its_colour(full_document: Element) -> None:
    signs = {"good": "✓", "bad": "✗", "unsure": "?"}
    marked = [
        e for e in full_document.walk() if e.tag == "td" for mark in signs if mark in e.attributes["class"].split()
    ]
    assert marked
    for cell in marked:
        (mark,) = signs.keys() & set(cell.attributes["class"].split())
        assert cell.text.startswith(signs[mark])
        assert cell.text != signs[mark]


def test_the_page_works_without_scripts(document: Element) -> None:
    assert not document.find("script")
    assert not [e for e in document.walk() if any(name.startswith("on") for name in e.attributes)]


def test_the_same_record_gives_the_same_page(full_record: Report, full_html: str) -> None:
    assert render(full_record) == full_html


def test_a_page_of_a_large_network_is_not_large() -> None:
    """Sixteen CBAM blocks with the channels and maps of a ResNet-50, two files and an engine."""
    record = sample(
        blocks=16,
        runtimes=("eager", "onnxruntime", "compile"),
        batches=(1, 8),
        precisions=("float32", "float16"),
        channels=1024,
        side=56,
        rounds=200,
        shapes=[(n, 3, 224, 224) for n in (1, 2, 4)],
    )
    places = [block.place for block in record.onnx_files[0].attention]
    html = render(replace(record, artifacts=(*record.artifacts, engine("model", places, "CBAM"))))
    assert len(html.encode()) < LARGEST
    assert len(page.read(html).find("svg")) > 5


def test_the_page_shows_every_warning_of_standard_error(full_record: Report) -> None:
    conditions = Conditions(others=0.07, steal=0.05, quota=1.5, throttled=0.08, notes=("clocks aren't known",))
    report = changed(full_record, {"latency/runs/0/conditions": conditions, "latency/timings/1/p90_ms": 99.0})
    warnings = latency_warnings(report.latency)
    assert len(warnings) > 5
    (box,) = page.read(render(report)).find("div", class_="caution")
    for warning in warnings:
        assert warning[1:] in box.text


def test_what_agrees_is_folded_and_what_disagrees_is_open_and_first(full_record: Report) -> None:
    def state(report: Report) -> dict[str, bool]:
        sections = page.read(render(report)).find("details", class_="section")
        return {e.find("section")[0].attributes["id"]: "open" in e.attributes for e in sections}

    good = state(full_record)
    assert not good["error"]
    assert good["budgets"], "one is broken"
    bad = state(changed(full_record, {"artifacts/0/validation/comparisons/0/error": 1.0}))
    assert bad["error"]
    assert next(iter(bad)) == "error"
