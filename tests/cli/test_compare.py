"""`attn-export compare old.report.json new.report.json`: exit codes, words, and documents."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from attn_export.exporter.records.document import SCHEMA_VERSION, encode
from attn_export.exporter.records.report import InputRecord, Report
from tests.budgets.sample import FILE, sample_report, sample_timing, sample_timings, scaled
from tests.cli.conftest import Finished

Command = Callable[..., Finished]
SCHEMA = Path(__file__).parents[2] / "docs" / "compare.schema.json"

OLD, NEW = "old.report.json", "new.report.json"
SAME = sample_report(sample_timings(seed=7))


@pytest.fixture
def reports(folder: Path) -> Callable[..., None]:
    """``reports(new)`` puts two reports into the folder."""

    def write(new: Report, old: Report | None = None) -> None:
        for name, report in ((OLD, old or sample_report()), (NEW, new)):
            (folder / name).write_text(encode(report), encoding="utf-8")

    return write


def document_of(done: Finished) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(done.stdout)
    jsonschema.validate(document, json.loads(SCHEMA.read_text(encoding="utf-8")))
    return document


# 0: nothing is broken.


def test_two_runs_of_the_same_pass(reports: Callable[..., None], attn_export: Command) -> None:
    reports(SAME)
    done = attn_export("compare", OLD, NEW)
    assert done.returncode == 0, done.stderr
    assert f"{OLD} → {NEW}" in done.stdout
    assert "can't tell" in done.stdout
    assert done.stderr == ""


def test_what_cant_be_told_passes_and_is_said(reports: Callable[..., None], attn_export: Command) -> None:
    reports(SAME)
    low, high = SAME.latency.timings[1].median_interval_ms
    done = attn_export("compare", OLD, NEW, "--budget", f"latency={(low + high) / 2}")
    assert done.returncode == 0, done.stderr
    last = done.stdout.rstrip().splitlines()[-1]
    assert last.startswith("latency=")
    assert last.split("  ")[1] == "can't tell"


def test_notes_are_on_standard_error_and_can_be_left_out(reports: Callable[..., None], attn_export: Command) -> None:
    reports(sample_report(sample_timings(seed=7), environment={"cpu": "Another"}))
    done = attn_export("compare", OLD, NEW)
    assert done.returncode == 0, done.stderr
    assert "note: another machine, so only ratios to the baseline are compared" in done.stderr
    assert "note" not in attn_export("compare", OLD, NEW, "--quiet").stderr
    assert document_of(attn_export("compare", OLD, NEW, "--json"))["same_machine"] is False


# 1: something is.


def test_slower_than_is_allowed_ends_with_1_after_the_table(reports: Callable[..., None], attn_export: Command) -> None:
    reports(scaled(SAME, 1.3, ["onnxruntime"]))
    done = attn_export("compare", OLD, NEW)
    assert done.returncode == 1
    assert "slower, too much" in done.stdout
    assert "error: onnxruntime of model.onnx at batch 1 got slower: +" in done.stderr
    assert "5% is allowed" in done.stderr
    assert attn_export("compare", OLD, NEW, "--slower", "50%").returncode == 0
    assert attn_export("compare", OLD, NEW, "--slower", "50").returncode == 0
    assert attn_export("compare", OLD, NEW, "--slower", "10%").returncode == 1


def test_a_broken_budget_ends_with_1_and_names_all_there_is_to_it(
    reports: Callable[..., None], attn_export: Command
) -> None:
    reports(SAME)
    done = attn_export("compare", OLD, NEW, "--budget", "latency=2ms,drop=0", "--budget", "eager:p99=1s")
    assert done.returncode == 1
    assert "--budget latency=2ms is broken: the latency of model.onnx in onnxruntime at batch 1 is" in done.stderr
    low, high = SAME.latency.timings[1].median_interval_ms
    assert f"({low:.4g} to {high:.4g})" in done.stderr
    assert "drop=0 is broken" not in done.stderr
    assert "p99=1s is broken" not in done.stderr


def test_budgets_are_held_against_the_new_report(reports: Callable[..., None], attn_export: Command) -> None:
    fast, slow = sample_report(sample_timings(10, 1)), sample_report(sample_timings(10, 9))
    reports(fast, slow)
    assert attn_export("compare", OLD, NEW, "--budget", "latency=2").returncode == 0
    reports(slow, fast)
    assert attn_export("compare", OLD, NEW, "--budget", "latency=2", "--slower", "9999").returncode == 1


@pytest.mark.parametrize(("factor", "code"), [(1.0, 0), (1.3, 1)])
def test_json_is_one_document_with_pairs_budgets_and_error(
    reports: Callable[..., None], attn_export: Command, factor: float, code: int
) -> None:
    reports(scaled(SAME, factor, ["onnxruntime"]))
    done = attn_export("compare", OLD, NEW, "--json", "--budget", "latency=100,ratio=0.9")
    assert done.returncode == code
    document = document_of(done)
    assert document["schema_version"] == SCHEMA_VERSION
    assert [pair["broken"] for pair in document["pairs"]] == [False, bool(code)]
    assert [budget["state"] for budget in document["budgets"]] == ["kept", "kept"]
    assert (document["error"] is None) == (code == 0)
    if code:
        assert document["error"]["exit_code"] == 1
        assert "got slower" in document["error"]["message"]


# Files.


@pytest.mark.parametrize(("factor", "code"), [(1.0, 0), (1.3, 1)])
def test_the_report_is_written_whatever_comes_out(
    reports: Callable[..., None], attn_export: Command, folder: Path, factor: float, code: int
) -> None:
    reports(scaled(SAME, factor, ["onnxruntime"]))
    assert attn_export("compare", OLD, NEW, "--report", "out/compare.md").returncode == code
    markdown = (folder / "out" / "compare.md").read_text(encoding="utf-8")
    assert markdown.startswith("### Too slow" if code else "### Latency")
    done = attn_export("compare", OLD, NEW, "--report", "compare.json", "--json")
    assert json.loads((folder / "compare.json").read_text(encoding="utf-8")) == document_of(done)


def test_several_reports_are_written_and_named(
    reports: Callable[..., None], attn_export: Command, folder: Path
) -> None:
    reports(SAME)
    done = attn_export("compare", OLD, NEW, "--report", "out/compare.md,compare.json", "--report", "again.md")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3:] == ["out/compare.md", "compare.json", "again.md"]
    assert (folder / "out" / "compare.md").read_text() == (folder / "again.md").read_text()
    assert json.loads((folder / "compare.json").read_text())["error"] is None


def test_nothing_else_is_written(
    reports: Callable[..., None], attn_export: Command, contents: Callable[[], dict[str, Any]]
) -> None:
    reports(SAME)
    before = contents()
    assert attn_export("compare", OLD, NEW, "--budget", "latency=100").returncode == 0
    assert contents() == before


# 2: the command line.


@pytest.mark.parametrize(
    ("options", "says", "hint"),
    [
        (["--budget", "latency"], "--budget 'latency' can't be understood", "onnxruntime:latency=3ms"),
        (["--budget", "latenzy=3"], "there is no metric 'latenzy'", "Did you mean latency?"),
        (["--budget", "onnxruntim:latency=3"], "no runtime 'onnxruntim'", "Did you mean onnxruntime?"),
        (["--budget", "latency=3,drop=1,latency=4"], "latency=3 and --budget latency=4 limit the same figure", "out"),
        (["--budget", "latency=3%"], "'%' is no unit of latency", "latency=3ms"),
        (["--slower", "some"], "--slower 'some' is no percentage", "--slower 5%"),
        (["--slower", "-5%"], "--slower '-5%' is no percentage", "--slower 5%"),
        (["--slower", "nan"], "--slower 'nan' is no percentage", "--slower 5%"),
        (["--report", "compare.txt"], "the ending is .txt, expected is one of .md, .json", "compare.md"),
        (["--report", "a.md,./a.md"], "a.md is asked for twice", "another name"),
        (["--report", "a.md,a.html"], "a.html: the ending is .html, expected is one of .md, .json", "a.md"),
        (["--report", NEW], "would replace a report that is compared", "another name"),
        (["--report", f"./{OLD}"], "would replace a report that is compared", "another name"),
    ],
)
def test_a_wrong_command_line(
    reports: Callable[..., None], refused: Command, options: list[str], says: str, hint: str
) -> None:
    reports(SAME)
    refused(2, "compare", OLD, NEW, *options, says=[says], hint=hint)


def test_a_wrong_command_line_is_found_before_a_wrong_file(refused: Command) -> None:
    refused(2, "compare", "none.json", "none.json", "--budget", "latency", says=["can't be understood"])


def test_two_reports_are_needed(attn_export: Command, reports: Callable[..., None]) -> None:
    reports(SAME)
    assert attn_export("compare", OLD).returncode == 2


# 3: what can't be compared.


@pytest.mark.parametrize("which", [OLD, NEW])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is empty"),
        ("latency", "is no JSON document"),
        ("[]", "is no report of attn-export"),
        (encode(sample_report(schema_version=1)), "has schema version 1, made by attn-export 0.1.0"),
        (
            json.dumps({"schema_version": SCHEMA_VERSION, "error": {"message": "no disk"}}),
            "is the document of a run that failed: no disk",
        ),
        (encode(sample_report([])), "has no latencies"),
        (encode(sample_report(latency={"threads": None})), "Expected `int`, got `null` - at `$.latency.threads`"),
    ],
)
def test_a_file_that_is_no_report_is_named(
    reports: Callable[..., None], refused: Command, folder: Path, which: str, content: str, says: str
) -> None:
    reports(SAME)
    (folder / which).write_text(content, encoding="utf-8")
    refused(3, "compare", OLD, NEW, says=[which, says])


def test_a_missing_report_and_a_folder(reports: Callable[..., None], refused: Command, folder: Path) -> None:
    reports(SAME)
    refused(3, "compare", "none.report.json", NEW, says=["none.report.json does not exist"])
    refused(3, "compare", OLD, ".", says=["is a folder"])


@pytest.mark.parametrize(
    ("new", "says"),
    [
        (sample_report(model={"name": "se_resnet8"}), "another network"),
        (
            sample_report(model={"inputs": (InputRecord("input", "float32", (1, 3, 32, 32)),)}),
            "input 3×16×16, not input 3×32×32",
        ),
        (sample_report([sample_timing("compile", 5)]), "no timing in common"),
        (
            sample_report([sample_timing("onnxruntime", 3, artifact=FILE)], environment={"cpu": "Another"}),
            "the CPU was A processor and is Another",
        ),
    ],
)
def test_reports_that_dont_fit_each_other(
    reports: Callable[..., None], refused: Command, new: Report, says: str
) -> None:
    reports(new)
    refused(3, "compare", OLD, NEW, says=[OLD, NEW, says] if "CPU" not in says else [OLD, says])


@pytest.mark.parametrize(
    ("budget", "says"),
    [("tensorrt:latency=1", "timed were eager, onnxruntime"), ("eager:drop=1", "nothing was compared in eager")],
)
def test_a_budget_about_nothing_is_not_taken_for_kept(
    reports: Callable[..., None], refused: Command, budget: str, says: str
) -> None:
    reports(SAME)
    refused(3, "compare", OLD, NEW, "--budget", budget, says=[budget, says], hint="isn't taken for kept")


def test_an_error_is_a_document_under_json(reports: Callable[..., None], attn_export: Command) -> None:
    reports(sample_report(model={"name": "se_resnet8"}))
    done = attn_export("compare", OLD, NEW, "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"]["exit_code"] == 3


# 6: what can't be written.


def test_a_report_that_cant_be_written(reports: Callable[..., None], attn_export: Command, folder: Path) -> None:
    reports(SAME)
    (folder / "file").write_text("")
    done = attn_export("compare", OLD, NEW, "--report", "file/compare.md")
    assert done.returncode == 6
    assert "can't be written" in done.stderr


# It is quick.


def test_torch_isnt_needed(reports: Callable[..., None], folder: Path) -> None:
    import subprocess
    import sys

    reports(SAME)
    code = (
        "import sys; sys.modules.update(torch=None, onnx=None, onnxruntime=None, onnx_ir=None)\n"
        "from attn_export.cli import run\n"
        f"raise SystemExit(run(['compare', '{OLD}', '{NEW}', '--budget', 'latency=100']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
