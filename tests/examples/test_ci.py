"""The CI example: it passes where nothing changed, and fails where the file got slower, whatever machine this is."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from attn_export.cli import command_names, run
from attn_export.exporter.records.document import encode
from attn_export.exporter.report.read import read_report
from tests.budgets.sample import scaled

FOLDER = Path(__file__).parents[2] / "examples" / "ci"
MODEL = Path(__file__).parents[2] / "examples" / "digits" / "cbam_digits.pt"
# Five times as slow as before, beyond noise: no load of this machine looks like it, and a factor of 50 always does.
TOLERANT, FACTOR = "400%", 0.02
OPTIONS = ("--threads", "1", "--seconds", "0.1", "--quiet")

Check = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One in which `attn-export` is this one."""
    place = tmp_path_factory.mktemp("bin")
    command = place / "attn-export"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m attn_export.cli "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    inherited = {key: value for key, value in os.environ.items() if key not in ("OUT", "SLOWER", "BUDGET")}
    return {**inherited, "PATH": f"{place}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of the digits network, made here and now."""
    out = tmp_path_factory.mktemp("baseline")
    assert run([str(MODEL), "--onnx", "--out", str(out), *OPTIONS]) == 0
    return out / "cbam_digits.report.json"


@pytest.fixture
def check(tmp_path: Path, environment: dict[str, str]) -> Check:
    """``check(model, baseline, SLOWER="5%")`` runs the script in a folder of its own."""

    def script(*arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(FOLDER / "check.sh"), *map(str, arguments)],
            cwd=tmp_path,
            env={**environment, **settings},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    return script


@pytest.mark.full
def test_where_nothing_changed_it_passes(check: Check, baseline: Path, tmp_path: Path) -> None:
    done = check(MODEL, baseline, *OPTIONS, SLOWER=TOLERANT, BUDGET="latency=100s,eager:p99=1000s,drop=100%")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("kept") == 3
    assert (tmp_path / "build" / "cbam_digits.onnx").exists()
    assert (tmp_path / "build" / "compare.md").read_text(encoding="utf-8").startswith("### Latency")


@pytest.mark.full
def test_where_the_file_got_slower_it_fails_with_1(check: Check, baseline: Path, tmp_path: Path) -> None:
    kept = tmp_path / "baseline.report.json"
    kept.write_text(encode(scaled(read_report(baseline), FACTOR, ["onnxruntime"])), encoding="utf-8")
    done = check(MODEL, kept, *OPTIONS, SLOWER=TOLERANT, OUT="elsewhere")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "got slower" in done.stderr
    assert (tmp_path / "elsewhere" / "compare.md").read_text(encoding="utf-8").startswith("### Too slow")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [((), 2, "usage"), ((MODEL,), 2, "usage"), ((MODEL, "none.report.json"), 3, "there is no none.report.json")],
)
def test_what_is_missing_is_said_before_the_work_begins(
    check: Check, tmp_path: Path, arguments: tuple[object, ...], code: int, says: str
) -> None:
    done = check(*arguments)
    assert done.returncode == code
    assert says in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_workflow_runs_the_script_with_what_the_script_takes() -> None:
    workflow = (FOLDER / "latency.yml").read_text(encoding="utf-8")
    script = (FOLDER / "check.sh").read_text(encoding="utf-8")
    assert re.search(r"run: bash ci/check\.sh \S+\.pt \S+\.report\.json$", workflow, re.MULTILINE)
    for setting in re.findall(r"^ {10}([A-Z]+):", workflow, re.MULTILINE):
        assert f"${{{setting}:-" in script
    assert "build/compare.md" in workflow
    assert set(re.findall(r"^attn-export ([a-z]+)", script, re.MULTILINE)) <= set(command_names())


def test_the_workflow_s_budget_is_one() -> None:
    from attn_export.exporter.commands.parse import parse_budget_options

    found = re.search(r"BUDGET: (\S+)", (FOLDER / "latency.yml").read_text(encoding="utf-8"))
    assert found is not None
    assert len(parse_budget_options([found[1]])) == 2
