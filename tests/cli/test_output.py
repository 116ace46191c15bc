"""Wherever a result is printed to: a narrow window, a stream that isn't UTF-8, a full disk."""

import errno
import io
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.text import Text

from attn_export.exporter.commands.console import print_in_any_encoding, stdout
from attn_export.exporter.report.console import PlainConsole
from attn_export.exporter.report.live import Bars, Lines
from attn_export.exporter.report.tables import table
from tests.cli.conftest import Finished

LONG = "a_name_as_long_as_those_that_trainings_give_their_files_" * 3 + ".onnx"


def command(folder: Path, words: str, **environment: str) -> Finished:
    """What a shell makes of it."""
    return subprocess.run(
        f"{sys.executable} -m attn_export.cli {words}",
        shell=True,
        cwd=folder,
        capture_output=True,
        encoding="latin-1",
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(("encoding", "shape"), [("ascii", "3x32x32"), ("utf-8", "3×32×32")])
def test_a_stream_gets_the_result_in_its_own_encoding(
    encoding: str, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding=encoding))
    print_in_any_encoding()
    made = table("Networks", "name", "input")
    made.add_row("resnet8", "3×32×32")
    stdout().print(made)
    sys.stdout.flush()
    assert re.search(rf"^resnet8 +{shape}", content.getvalue().decode(encoding), re.MULTILINE)


def test_names_that_ascii_has_no_letters_for_stay_distinct(folder: Path) -> None:
    done = command(folder, "create resnet8 -o 'größe 注.pt'", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert (folder / "größe 注.pt").is_file()
    assert r"gr\xf6\xdfe \u6ce8.pt" in done.stdout


@pytest.mark.parametrize(("encoding", "arrow"), [("ascii", "->"), ("utf-8", "→")])
def test_an_error_comes_in_the_encoding_of_the_stream(folder: Path, encoding: str, arrow: str) -> None:
    done = command(folder, "'größe.pt' --onnx", PYTHONIOENCODING=encoding)
    assert done.returncode == 3
    assert f"\n  {arrow} " in done.stderr.encode("latin-1").decode(encoding)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    "words", [*(pytest.param(words, marks=pytest.mark.full) for words in ("models", "models --json")), "--version"]
)
def test_a_full_disk_where_the_result_goes_is_no_defect(folder: Path, words: str) -> None:
    done = command(folder, f"{words} > /dev/full")
    assert done.returncode == 6, done.stderr
    assert f"error: the result can't be printed: {os.strerror(errno.ENOSPC)}" in done.stderr
    assert "defect" not in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """A terminal of so many columns; None: a file."""

    def of(columns: int | None) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: columns is not None)
        if columns is not None:
            monkeypatch.setenv("COLUMNS", str(columns))

    return of


@pytest.mark.parametrize("columns", [None, 20, 60, 80, 400])
def test_no_figure_is_cut_off_however_narrow_the_window_is(
    window: Callable[[int | None], None], capsys: pytest.CaptureFixture[str], columns: int | None
) -> None:
    window(columns)
    made = table("Latency", "runtime", "median ms", "p99")
    made.add_row(LONG, "1234.567", "9876.543")
    made.add_row("eager", "1.000", "2.000")
    stdout().print(made)
    printed = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert f"{LONG}   1234.567  9876.543" in printed
    assert "…" not in printed


def test_a_title_and_a_sentence_keep_to_the_window(
    window: Callable[[int | None], None], capsys: pytest.CaptureFixture[str]
) -> None:
    window(60)
    made = table("Budgets", "of")
    made.add_row("model.onnx")
    stdout().print(made)
    stdout().print("a sentence with many words " * 10)
    assert all(len(line) <= 60 for line in capsys.readouterr().out.splitlines())


@pytest.mark.full
def test_a_real_window_of_40_columns_shows_whole_figures(folder: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "attn_export.cli", "models"],
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env={**os.environ, "COLUMNS": "40", "TERM": "xterm"},
    )
    os.close(theirs)
    seen = b""
    try:
        while part := os.read(ours, 65536):
            seen += part
    except OSError:  # Linux's way to say that the other side is closed
        pass
    os.close(ours)
    assert process.wait(timeout=600) == 0
    assert "…" not in seen.decode()
    assert "cbam_mobilenet_v3_large" in seen.decode()


HOSTILE = "conv1.weight\x1b]0;title\x07\x1b[2J\x9b1m\u202e[bold]all is well[/bold]"


def test_names_in_a_file_cannot_command_the_terminal(folder: Path) -> None:
    torch.save({HOSTILE: torch.ones(2)}, folder / "hostile.pt")
    done = command(folder, "hostile.pt --onnx --arch cbam_resnet8", PYTHONIOENCODING="utf-8")
    assert done.returncode == 3
    printed = done.stderr.encode("latin-1").decode()
    assert r"'conv1.weight\x1b]0;title\x07\x1b[2J\x9b1m\u202e[bold]all is well[/bold]'" in printed
    assert not set("\x1b\x07\x9b\u202e") & set(printed)


def test_a_name_of_a_million_letters_is_clipped(folder: Path) -> None:
    torch.save({"k" * 10**6: torch.ones(2)}, folder / "long.pt")
    done = command(folder, "long.pt --onnx --arch cbam_resnet8")
    assert done.returncode == 3
    assert len(done.stderr) < 20_000
    assert "1 unexpected: kkkk" in done.stderr


@pytest.mark.parametrize("make", [Lines, Bars])
def test_notes_and_stages_are_printed_without_control_characters(make: type[Lines] | type[Bars]) -> None:
    stream = io.StringIO()
    shown = make(stream)
    with shown.stage(HOSTILE):
        shown.note(HOSTILE)
    assert "[bold]all is well[/bold]" in stream.getvalue()
    assert not set("\x1b\x07\x9b\u202e") & set(stream.getvalue())


def test_styles_stay_in_a_terminal() -> None:
    stream = io.StringIO()
    PlainConsole(file=stream, force_terminal=True, color_system="standard").print(Text(HOSTILE, "bold red"))
    assert stream.getvalue().startswith("\x1b[1")
    assert "\x1b[2J" not in stream.getvalue()
