"""The page of a real run, and that made-up records are like real ones."""

import json
from pathlib import Path

import jsonschema
import pytest

from attn_export.cli import run
from attn_export.exporter.report.page.render import render
from tests.report import page
from tests.report.conftest import SAMPLES
from tests.report.sample import Record

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = ["latency", "error", "graph", "attention", "gates", "precision", "budgets", "environment"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of one run that asked for every report."""
    place = tmp_path_factory.mktemp("run")
    reports = [word for name in ("page.html", "comment.md", "copy.json") for word in ("--report", str(place / name))]
    words = [str(ROOT / "examples" / "digits" / "cbam_digits.pt"), "--onnx", "--precision", "fp32,fp16", "--quiet"]
    code = run([*words, "--out", str(place), "--seconds", "1", "--budget", "latency=1000ms", *reports])
    assert code == 0
    return place


@pytest.fixture(scope="module")
def record(folder: Path) -> Record:
    return json.loads((folder / "cbam_digits.report.json").read_text(encoding="utf-8"))


def test_a_run_writes_every_report_that_was_asked_for(folder: Path, record: Record) -> None:
    assert json.loads((folder / "copy.json").read_text(encoding="utf-8")) == record
    assert (folder / "comment.md").read_text(encoding="utf-8").startswith("## cbam\\_digits.pt")
    assert (folder / "page.html").read_text(encoding="utf-8") == render(record)


def test_the_page_of_a_run_has_every_section(folder: Path) -> None:
    document = page.read((folder / "page.html").read_text(encoding="utf-8"))
    names = [e.attributes["id"] for e in document.find("section") if "id" in e.attributes]
    assert names == SECTIONS
    charts = [title.own_text for chart in document.find("svg") for title in chart.find("title")[:1]]
    for words in ("Every timed inference", "Every node of the graph", "As captured", "How open each gate is"):
        assert words in charts
    assert len(document.find("img")) == 1 + 6 * 3  # the image; six gates in PyTorch and two files


def test_every_gate_is_drawn_with_its_difference(folder: Path) -> None:
    text = page.read((folder / "page.html").read_text(encoding="utf-8")).find("section", id="gates")[0].text
    assert text.count("off by") == 6 * 2
    for layer in (1, 2, 3):
        assert f"layer{layer}.0.attention CBAM" in text


@pytest.mark.parametrize("name", SAMPLES)
def test_records_that_are_made_up_are_records(name: str) -> None:
    schema = json.loads((ROOT / "docs" / "report.schema.json").read_text(encoding="utf-8"))
    made = json.loads(json.dumps(SAMPLES[name]()))
    problems = sorted(jsonschema.Draft202012Validator(schema).iter_errors(made), key=lambda e: list(e.absolute_path))
    assert [f"{'/'.join(map(str, e.absolute_path))}: {e.message[:200]}" for e in problems] == []


def test_the_record_of_the_run_is_one_too(record: Record) -> None:
    schema = json.loads((ROOT / "docs" / "report.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(record)
