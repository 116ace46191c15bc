"""The reports of a real run."""

from pathlib import Path

import pytest

from attn_export.cli import run
from attn_export.exporter.errors import UnreadableReportError
from attn_export.exporter.records.document import decode
from attn_export.exporter.records.report import Report
from attn_export.exporter.report.page.render import render
from tests.report import page

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = ["gates", "graph", "latency", "attention", "error", "budgets", "environment"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of one run that asked for every report."""
    place = tmp_path_factory.mktemp("run")
    reports = [
        word
        for name in ("page.html", "comment.md", "copy.json", "card.png")
        for word in ("--report", str(place / name))
    ]
    words = [str(ROOT / "examples" / "digits" / "cbam_digits.pt"), "--onnx", "--precision", "fp32,fp16", "--quiet"]
    code = run([*words, "--out", str(place), "--seconds", "0.1", "--budget", "latency=1000ms", *reports])
    assert code == 0
    return place


@pytest.fixture(scope="module")
def record(folder: Path) -> Report:
    return decode((folder / "cbam_digits.report.json").read_bytes(), Report)


def test_a_run_writes_every_report_that_was_asked_for(folder: Path, record: Report) -> None:
    assert decode((folder / "copy.json").read_bytes(), Report) == record
    assert (folder / "comment.md").read_text(encoding="utf-8").startswith("## cbam\\_digits.pt")
    assert (folder / "page.html").read_text(encoding="utf-8") == render(record)


def test_the_page_of_a_run_has_every_section(folder: Path) -> None:
    document = page.read((folder / "page.html").read_text(encoding="utf-8"))
    names = [e.attributes["id"] for e in document.find("section") if "id" in e.attributes]
    assert names == [*SECTIONS, "missing"]  # nothing was evaluated
    charts = [title.own_text for chart in document.find("svg") for title in chart.find("title")[:1]]
    for words in ("Every timed inference, in ms", "Error ratio of every gate and output"):
        assert words in charts
    assert len(document.find("img")) == 2 + 6 * 3  # the image, twice; six gates in PyTorch and two files


def test_every_gate_is_drawn_with_its_difference(folder: Path) -> None:
    text = page.read((folder / "page.html").read_text(encoding="utf-8")).find("section", id="gates")[0].text
    assert text.count("differs by") == 6 * 2
    for layer in (1, 2, 3):
        assert f"layer{layer}.0.attention CBAM" in text


def test_an_old_report_gives_the_same_reports_again(folder: Path, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("page.html", "comment.md", "copy.json")]
    asked = [word for path in paths for word in ("--report", str(path))]
    assert run(["report", str(folder / "cbam_digits.report.json"), "--quiet", *asked]) == 0
    for path in paths[:2]:
        assert path.read_bytes() == (folder / path.name).read_bytes()
    assert decode(paths[2].read_bytes(), Report) == decode((folder / "copy.json").read_bytes(), Report)


def test_an_old_report_is_printed_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(folder / "cbam_digits.report.json"), "--quiet"]) == 0
    printed = capsys.readouterr().out
    for words in ("Against PyTorch in float64", "Latency at batch 1", "Attention in cbam_digits.onnx", "Budgets"):
        assert words in printed


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"schema_version": 1, "created": ""}', "schema version 1"),
        ('{"schema_version": 3, "created": 3, "latency": {}}', "$.created"),
        ("[1, 2", "is no JSON document"),
        (None, "does not exist"),
    ],
)
def test_what_is_no_report_of_this_version_is_refused(
    content: str | None, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "old.json").write_text(content)
    words = ["report", str(tmp_path / "old.json"), "--quiet", "--report", str(tmp_path / "page.html")]
    assert run(words) == UnreadableReportError.exit_code
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()
