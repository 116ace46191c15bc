"""The arrow from a record to files: what is refused before the work begins, and what is written at its end."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from attn_export.exporter.errors import OutputError, RuntimeUnavailableError, UsageError
from attn_export.exporter.records.document import decode, encode
from attn_export.exporter.records.report import Report
from attn_export.exporter.report.write import FORMATS, check_reports, write_reports
from tests.report.sample import bare_sample, changed, sample


@pytest.fixture(scope="module")
def record() -> Report:
    return sample(blocks=1, rounds=2)


def test_each_ending_gets_its_form(tmp_path: Path, record: Report) -> None:
    paths = [tmp_path / "new" / name for name in ("report.html", "report.MD", "report.json")]
    check_reports(paths)
    assert not (tmp_path / "new").exists(), "a check leaves nothing behind"
    write_reports(record, paths)
    page, comment, document = (path.read_text(encoding="utf-8") for path in paths)
    assert page.startswith("<!doctype html>")
    assert comment.startswith("## model.pt")
    assert decode(document, Report) == record
    assert document == encode(record)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(path.name for path in paths)


def test_no_report_is_no_work() -> None:
    check_reports([])
    write_reports(bare_sample(), [])


def test_the_page_of_a_record_and_of_its_file_are_the_same(tmp_path: Path, record: Report) -> None:
    write_reports(record, [tmp_path / "live.html", tmp_path / "record.json"])
    write_reports(decode((tmp_path / "record.json").read_bytes(), Report), [tmp_path / "later.html"])
    assert (tmp_path / "live.html").read_bytes() == (tmp_path / "later.html").read_bytes()


@pytest.mark.parametrize("name", ["report.pdf", "report", "report.html.gz", ".html"])
def test_an_ending_that_is_not_known_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected is one of \.html, \.md, \.json, \.png"):
        check_reports([tmp_path / name])


def test_a_file_that_is_asked_for_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="asked for twice"):
        check_reports([tmp_path / "a.html", tmp_path / "b.md", tmp_path / "x" / ".." / "a.html"])


def test_a_folder_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        check_reports([tmp_path / "report.html"])


def test_a_device_is_not_replaced() -> None:
    with pytest.raises(OutputError, match="is no file"):
        check_reports([_linked_device()])


def _linked_device() -> Path:
    place = Path(os.devnull)
    return place if place.suffix else _Device(place)


class _Device(type(Path())):  # type: ignore[misc]
    """/dev/null under a name that a report may have."""

    @property
    def suffix(self) -> str:
        return ".md"


def test_a_file_where_a_folder_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't be written"):
        check_reports([tmp_path / "file" / "report.html"])


def test_a_folder_that_can_not_be_written_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        folder = Path("/proc/self")  # root may write anywhere else
        if not folder.exists():
            pytest.skip("nothing here is closed to root")
    with pytest.raises(OutputError, match="can't be written"):
        check_reports([folder / "report.html"])


WITHOUT = """
import sys
from pathlib import Path
from typing import Any
sys.modules["{absent}"] = None
from attn_export.exporter.errors import RuntimeUnavailableError
from attn_export.exporter.records.environment import Environment
from attn_export.exporter.records.latency import Latency, Schedule
from attn_export.exporter.records.report import Report
from attn_export.exporter.report.write import check_reports, write_reports
check_reports([Path("report.md"), Path("report.json")])
environment = Environment("Linux", "3.11", "CPU", 2, {{}})
latency = Latency(1, (0,), Schedule())
report = Report(
    created="", command=None, model=None, artifacts=(), latency=latency, environment=environment
)
write_reports(report, [Path("report.md"), Path("report.json")])
try:
    check_reports([Path("report.html")])
except RuntimeUnavailableError as error:
    print(error.exit_code, error.hint)
assert not {{"torch", "onnx", "onnxruntime"}} & set(sys.modules) or "{absent}" == "jinja2"
"""


@pytest.mark.parametrize("absent", ["matplotlib", "jinja2"])
def test_without_what_draws_a_page_it_is_refused_and_the_rest_works(absent: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(absent=absent)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{RuntimeUnavailableError.exit_code} pip install -c constraints.txt -e '.[report]'")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "report.md"]


def test_a_failed_render_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "report.md").write_text("as it was")

    def fail(_: Report) -> str:
        raise ValueError("no JSON")

    monkeypatch.setitem(FORMATS, ".json", fail)
    with pytest.raises(ValueError, match="JSON"):
        write_reports(bare_sample(), [tmp_path / "report.md", tmp_path / "report.json"])
    assert [path.read_text() for path in tmp_path.iterdir()] == ["as it was"]


def test_numbers_that_are_not_finite_are_null(tmp_path: Path, record: Report) -> None:
    write_reports(changed(record, {"latency/timings/0/device_median_ms": float("inf")}), [tmp_path / "report.json"])
    assert decode((tmp_path / "report.json").read_bytes(), Report).latency.timings[0].device_median_ms is None


@pytest.mark.parametrize("changes", [{}, {"gate_activations": None}, {"artifacts": [], "budgets": []}], ids=str)
def test_a_card_is_a_picture_for_sharing(changes: dict[str, Any], tmp_path: Path, record: Report) -> None:
    paths = [tmp_path / "card.png", tmp_path / "again.png"]
    check_reports(paths)
    write_reports(changed(record, changes), paths)
    assert imread(paths[0]).shape[:2] == (630, 1200)
    assert paths[0].read_bytes() == paths[1].read_bytes()
