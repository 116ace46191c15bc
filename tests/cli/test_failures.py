"""What goes wrong on the way, as the user meets it: full disks, interrupts, defects and verdicts.

What every refusal has in common is checked by the fixture `refused`.
"""

import errno
import importlib
import json
import os
import pty
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
import torch

from attn_export.exporter.cleanup import pipeline
from attn_export.exporter.cleanup.steps import AFTER
from attn_export.exporter.latency import interleaved as timing
from attn_export.exporter.system.progress import NullProgress
from attn_export.exporter.workflows import export as workflow

Finished = subprocess.CompletedProcess[str]
Command = Callable[..., Finished]
Contents = Callable[[], dict[str, bytes | None]]

QUICK = ["--onnx", "--no-bench"]


# 6: the output.


@pytest.mark.parametrize("place", ["/proc/attn-export/out", "taken", "taken/deeper"])
def test_a_folder_that_can_not_be_written_is_named_before_any_work_is_done(
    refused: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (folder / "taken").write_text("a file, where a folder should be")
    monkeypatch.setattr(workflow, "make_onnx", lambda *_: pytest.fail("work was done for nothing"))
    refused(6, "model.pt", *QUICK, "--out", place, says=[place, "can't be written"], hint="folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(refused: Command, folder: Path) -> None:
    (folder / "locked").mkdir(mode=0o500)
    refused(6, "model.pt", *QUICK, "--out", "locked", says=["locked", "Permission denied"], hint="folder")


def test_a_folder_in_the_place_of_a_result_is_named(refused: Command, folder: Path) -> None:
    (folder / "model.onnx").mkdir()
    refused(6, "model.pt", *QUICK, says=["model.onnx", "can't be written"])


def full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["write_text", "replace"])
def test_a_disk_that_fills_up_at_the_very_end_is_no_defect(
    refused: Command, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The graph is written and proven; the report, or the rename, no longer fits."""
    monkeypatch.setattr(Path, call, full)
    refused(6, "model.pt", *QUICK, says=["No space left on device"], hint="room")


def test_a_disk_that_fills_up_keeps_the_results_of_last_time(
    attn_export: Command, refused: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "model.onnx").write_text("of last time")
    (folder / "model.report.json").write_text("of last time")
    monkeypatch.setattr(os, "fsync", full)
    refused(6, "model.pt", *QUICK, says=["model.onnx", "No space left on device"], hint="room")


@pytest.mark.full
@pytest.mark.parametrize("kib", [300])
def test_a_file_that_may_not_grow_any_further_is_an_output_that_can_not_be_written(
    folder: Path, contents: Contents, kib: int
) -> None:
    before = contents()
    done = subprocess.run(
        [sys.executable, "-m", "attn_export.cli", "model.pt", *QUICK],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (kib * 1024, kib * 1024)),
    )
    assert done.returncode == 6, done.stderr
    assert "can't be written: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert contents() == before


@pytest.mark.full
@pytest.mark.parametrize("kib", [200], ids=["while the graph is written"])
def test_a_full_disk_is_an_output_that_can_not_be_written(
    folder: Path, tmp_path: Path, contents: Contents, kib: int
) -> None:
    """A file system so small that it is full in the middle, of its own for the process and gone with it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size={kib}k none '{disk}'"
    if not shutil.which("unshare") or subprocess.run(["unshare", "-m", "sh", "-c", mount], check=False).returncode:
        pytest.skip("a file system can't be mounted here: no root, or no unshare")
    before = contents()
    run = f"{sys.executable} -m attn_export.cli model.pt {' '.join(QUICK)} --out '{disk}'"
    script = f"{mount} && {{ {run}; echo exit code $?; ls -A '{disk}'; }}"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], cwd=folder, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.stdout == "exit code 6\n", done.stdout + done.stderr
    assert "can't be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert contents() == before


def test_memory_that_runs_out_is_said(refused: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_: Any, **__: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(workflow, "make_onnx", greedy)
    refused(6, "model.pt", *QUICK, says=["memory"], hint="smaller")


def test_torchs_own_way_to_run_out_of_memory_is_said_too(refused: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_: Any, **__: Any) -> Any:
        torch.empty(2**50)  # more than any address space has

    monkeypatch.setattr(workflow, "make_onnx", greedy)
    refused(6, "model.pt", *QUICK, says=["memory"])


# 130: interrupted.

STAGES = [
    "Reading the checkpoint",
    "Capturing with PyTorch's exporter",
    "Cleaning the graph",
    "Computing the reference in float64",
    "Comparing ONNX Runtime with the reference",
    "Opening eager",
    "Opening onnxruntime",
    "Timing, interleaved",
]


class Interrupting(NullProgress):
    """A make_progress during whose stage of a certain title Ctrl-C is pressed."""

    def __init__(self, title: str, *, at_the_end: bool) -> None:
        self.title, self.at_the_end = title, at_the_end
        self.stages: list[str] = []

    @contextmanager
    def stage(self, title: str) -> Iterator[Callable[[float], None]]:
        self.stages.append(title)
        if title == self.title and not self.at_the_end:
            raise KeyboardInterrupt
        yield lambda _: None
        if title == self.title:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("title", "at_the_end"), [(title, False) for title in STAGES] + [(STAGES[0], True), (STAGES[4], True)]
)
def test_an_interrupt_leaves_nothing_behind_whenever_it_comes(
    attn_export: Command, contents: Contents, monkeypatch: pytest.MonkeyPatch, title: str, at_the_end: bool
) -> None:
    listening = Interrupting(title, at_the_end=at_the_end)

    @contextmanager
    def make_progress(quiet: bool) -> Iterator[Interrupting]:
        yield listening

    monkeypatch.setattr("attn_export.exporter.commands.export.make_progress", make_progress)
    if title.startswith("Timing"):
        monkeypatch.setattr(timing, "measure", lambda *_: [])
    before, threads = contents(), torch.get_num_threads()
    done = attn_export("model.pt", "--onnx", "--threads", "1")
    assert listening.stages[-1] == title
    assert done.returncode == 130
    assert "interrupted" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert contents() == before
    assert torch.get_num_threads() == threads


def interrupted_in_a_terminal(arguments: list[str], folder: Path, until: str) -> tuple[int, str, str]:
    """Run the command with standard error on a terminal, and interrupt it when the words appear there.

    Returns:
        The exit code, standard output, and what stood on the terminal.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "attn_export.cli", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "OMP_NUM_THREADS": "1"},
    )
    os.close(theirs)
    seen, sent = "", False
    deadline = time.monotonic() + 600
    try:
        while time.monotonic() < deadline:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # the other side is closed: Linux's way to say that this is the end
                break
            if not piece:
                break
            seen += piece.decode(errors="replace")
            if not sent and until in seen:
                process.send_signal(signal.SIGINT)
                sent = True
        printed, _ = process.communicate(timeout=600)
    finally:
        process.kill()
        os.close(ours)
    assert sent, f"{until!r} never appeared: {seen[-2000:]}"
    return process.returncode, printed, seen


@pytest.mark.parametrize(
    "title",
    [
        pytest.param("Reading the checkpoint", marks=pytest.mark.full),
        "Capturing with PyTorch's exporter",
        pytest.param("Timing, interleaved", marks=pytest.mark.full),
    ],
)
def test_ctrl_c_in_a_terminal_leaves_nothing_behind(folder: Path, contents: Contents, title: str) -> None:
    before = contents()
    code, printed, seen = interrupted_in_a_terminal(["model.pt", "--onnx", "--threads", "1"], folder, title)
    assert code == 130
    assert "interrupted" in seen
    assert "Traceback" not in seen
    assert printed == ""
    assert contents() == before


# 70: our own mistakes.


def broken(*_: Any, **__: Any) -> Any:
    return 1 / 0


ROOMS = {
    "checkpoint": "attn_export.exporter.checkpoint.load.load_with",
    "capture": "attn_export.exporter.network.capture.capture",
    "cleanup": "attn_export.exporter.cleanup.pipeline.clean_graph",
    "validation": "attn_export.exporter.validation.validate.validate",
    "report": "attn_export.exporter.workflows.export.export_report",
    "terminal": "attn_export.exporter.report.terminal.export_parts",
}


def replace_in(room: str, monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any]) -> None:
    """Patch the module itself: a package may have a function of the same name."""
    module, _, name = ROOMS[room].rpartition(".")
    monkeypatch.setattr(importlib.import_module(module), name, function)


@pytest.mark.parametrize("room", [name for name in ROOMS if name != "terminal"])
def test_a_defect_is_70_and_asks_for_a_report(refused: Command, monkeypatch: pytest.MonkeyPatch, room: str) -> None:
    replace_in(room, monkeypatch, broken)
    refused(70, "model.pt", *QUICK, says=["ZeroDivisionError"], hint="report")


def test_a_defect_of_the_printer_is_70_too(attn_export: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_in("terminal", monkeypatch, broken)
    done = attn_export("model.pt", *QUICK)
    assert done.returncode == 70
    assert "Traceback" not in done.stderr


DEFECTIVE = """
import importlib, sys
from attn_export import cli
importlib.import_module("attn_export.exporter.checkpoint.load").load_with = lambda *_, **__: 1 / 0
sys.argv = ["attn-export", *sys.argv[1:]]
cli.main()
"""


@pytest.mark.parametrize("flag", [["--debug"], pytest.param([], marks=pytest.mark.full)], ids=["--debug", "plain"])
def test_debug_shows_the_traceback_of_a_defect_and_the_code_stays_70(folder: Path, flag: list[str]) -> None:
    """Never 1, which is a verdict, and is what Python itself exits with."""
    done = subprocess.run(
        [sys.executable, "-c", DEFECTIVE, "model.pt", *QUICK, *flag],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 70, done.stderr
    assert ("Traceback" in done.stderr) == bool(flag)
    assert "ZeroDivisionError" in done.stderr


def test_debug_shows_the_traceback_of_an_error_of_the_users_too(attn_export: Command, folder: Path) -> None:
    (folder / "broken.pt").touch()
    done = attn_export("broken.pt", *QUICK, "--debug")
    assert done.returncode == 3
    assert "error: broken.pt is empty" in done.stderr
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    ["create resnet8 --json -o made.pt", "missing.bin --onnx --json", "--help"],
    ids=["result", "error", "help"],
)
def test_a_reader_who_goes_away_is_no_defect_and_no_verdict(folder: Path, arguments: str) -> None:
    """``attn-export ... | head -1``: not 1, which says that outputs disagree, and not 70."""
    done = subprocess.run(
        f"{sys.executable} -m attn_export.cli {arguments} | true; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert "Traceback" not in done.stderr
    assert "defect" not in done.stderr
    assert done.returncode not in (1, 70)


# 1: a verdict.


def scaling(wanted: Callable[[str, Any], bool], factor: float) -> Callable[[ir.Model], None]:
    """A cleanup step that computes one weight wrong."""

    def step(model: ir.Model) -> None:
        for name, value in model.graph.initializers.items():
            if value.const_value is not None and wanted(name, value.const_value.numpy()):
                value.const_value = ir.tensor(value.const_value.numpy() * factor, name=name)
                return
        pytest.fail("there is no such weight")

    return step


def with_faulty_cleanup(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = ("scale a weight", scaling(lambda _, array: array.ndim == 4 and array.shape[-1] == 3, 1.01))
    monkeypatch.setattr(pipeline, "AFTER", (*AFTER, fault))


def test_a_file_that_computes_something_else_is_not_written(
    refused: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_faulty_cleanup(monkeypatch)
    done = refused(1, "model.pt", "--onnx", says=["doesn't compute what PyTorch computes", "layer1.0"])
    numbers = re.findall(r"\d\.\de-\d\d", done.stderr)
    assert len(numbers) >= 2, "the error and the baseline"
    assert float(numbers[0]) > 8 * float(numbers[1])
    assert not (folder / "model.onnx").exists()


def test_a_file_that_computes_something_else_does_not_replace_a_good_one(
    refused: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "model.onnx").write_text("of last time")
    with_faulty_cleanup(monkeypatch)
    refused(1, "model.pt", *QUICK, says=["doesn't compute"])
    assert (folder / "model.onnx").read_text() == "of last time"


def test_a_cleanup_step_that_fails_is_named(refused: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "AFTER", (*AFTER, ("turn it inside out", broken)))
    refused(4, "model.pt", *QUICK, says=["turn it inside out"], hint="report")


# With --json.


@pytest.mark.parametrize(
    ("code", "arguments", "words"),
    [
        (2, ["model.pt", "--json"], "neither --onnx nor --engine"),
        (2, ["--json", "model.pt", "--onnx", "--input", "large"], "large"),
        (2, ["model.pt", "--onnx", "--json", "--frobnicate"], "--frobnicate"),
        (2, ["create", "--json"], "name"),
        (2, ["create", "rsnet8", "-o", "made.pt", "--json"], "rsnet8"),
        (3, ["missing.bin", "--onnx", "--json"], "missing.bin"),
        (6, ["model.pt", "--onnx", "--json", "--out", "/proc/attn-export"], "/proc/attn-export"),
    ],
)
def test_with_json_an_error_is_one_document_too(
    attn_export: Command, contents: Contents, code: int, arguments: list[str], words: str
) -> None:
    before = contents()
    done = attn_export(*arguments)
    assert done.returncode == code
    document = json.loads(done.stdout)
    assert document["schema_version"] == 3
    assert document["error"]["exit_code"] == code
    assert words in document["error"]["message"]
    assert document["error"]["hint"]
    assert "error: " in done.stderr, "people read it there all the same"
    assert contents() == before


def test_with_json_a_defect_and_a_disagreement_are_documents_too(
    attn_export: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_faulty_cleanup(monkeypatch)
    done = attn_export("model.pt", *QUICK, "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]["exit_code"]) == (1, 1)
    replace_in("checkpoint", monkeypatch, broken)
    done = attn_export("model.pt", *QUICK, "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]["exit_code"]) == (70, 70)


def test_with_json_an_interrupt_is_one_document(attn_export: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    replace_in("checkpoint", monkeypatch, interrupt)
    done = attn_export("model.pt", *QUICK, "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]["exit_code"]) == (130, 130)


def test_a_line_break_in_a_name_begins_no_line(attn_export: Command) -> None:
    done = attn_export("inspect", "a\nerror: none, all is well.onnx")
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == ["error: a"]


def test_brackets_in_a_name_are_not_taken_for_markup(refused: Command) -> None:
    refused(3, "runs[bold]/[red]x[/].bin", *QUICK, says=["runs[bold]/[red]x[/].bin"])
