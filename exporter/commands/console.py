"""Printing of results on standard output and of progress on standard error."""

import codecs
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from attn_export.exporter.errors import AttnExportError

if TYPE_CHECKING:
    from attn_export.exporter.artifacts import LoadedModel, LoadOptions
    from attn_export.exporter.report.terminal import Part
    from attn_export.exporter.system.progress import Progress

REDIRECTED_WIDTH = 140
WIDEST_TABLE = 10_000
# Replacements for the characters of our tables that a stream's encoding lacks; others become their escape sequence.
PLAIN = {"×": "x", "–": "-", "—": "-", "±": "+-", "…": "...", "→": "->", "≥": ">=", "\u202f": " ", "\u00a0": " "}


def stdout() -> Any:
    """The console for results; it never truncates a table."""
    from rich.measure import Measurement
    from rich.table import Table

    from attn_export.exporter.report.console import PlainConsole

    class Whole(PlainConsole):
        def print(self, *objects: Any, **options: Any) -> None:
            unbounded = self.options.update(max_width=WIDEST_TABLE)
            widths = [Measurement.get(self, unbounded, made).maximum for made in objects if isinstance(made, Table)]
            usual = self.width
            self.width = max([usual, *widths])
            super().print(*objects, **options)
            self.width = usual

    return Whole(width=None if sys.stdout.isatty() else REDIRECTED_WIDTH, highlight=False)


def print_in_any_encoding() -> None:
    """Replace characters that the encoding of a stream lacks, instead of failing."""
    codecs.register_error("plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    return "".join(PLAIN.get(c, c.encode("ascii", "backslashreplace").decode()) for c in lacking), error.end


def print_parts(parts: "Iterable[Part]") -> None:
    """Print tables and captions."""
    from attn_export.exporter.report.terminal import drawn

    console = stdout()
    for part in drawn(parts):
        console.print(part)


@contextmanager
def make_progress(quiet: bool) -> Iterator[Any]:
    """Progress on standard error: bars in a terminal, lines elsewhere."""
    from attn_export.exporter.report.live import Bars, Lines
    from attn_export.exporter.system.progress import NullProgress

    if quiet:
        yield NullProgress()
    elif sys.stderr.isatty():
        with Bars(sys.stderr) as bars:
            yield bars
    else:
        yield Lines(sys.stderr)


def print_json(record: Any) -> None:
    """Print a record as JSON."""
    from attn_export.exporter.records.document import encode

    try:
        print(encode(record), end="", flush=True)
    except BrokenPipeError:
        redirect_stdout_to_devnull()


def print_result(
    record: Any,
    parts: "Iterable[Part]",
    *,
    as_json: bool,
    reports: Iterable[Path] = (),
    error: AttnExportError | None = None,
) -> None:
    """Print the result of a command as tables and the paths of its reports, or as JSON.

    Raises:
        AttnExportError: the error.
        typer.Exit: with the error's exit code under ``--json``, where the record contains the error.
    """
    if not as_json:
        print_parts(parts)
        for path in reports:
            stdout().print(str(path), style="bold", markup=False)
        if error is not None:
            raise error
        return
    if error is not None:
        from msgspec import structs

        from attn_export.exporter.records.report import ErrorRecord

        record = structs.replace(record, error=ErrorRecord.of(error))
    print_json(record)
    if error is not None:
        raise typer.Exit(error.exit_code)


def load_checkpoint(path: Path, progress: "Progress", options: "LoadOptions") -> "LoadedModel":
    """Load a network, and print how its checkpoint was read.

    With ``trust`` the current folder can be imported from: the modules that the file needs are often there.
    """
    if options.trust:
        sys.path.insert(0, str(Path.cwd()))
    with progress.stage("Reading the checkpoint"):
        from attn_export.exporter.checkpoint.load import load_with

        model = load_with(path, options)
    for note in model.notes:
        progress.note(note)
    return model


def command_line(ctx: typer.Context) -> tuple[str, ...]:
    """The command line, for the record."""
    return ("attn-export", *(ctx.obj or ()))


def redirect_stdout_to_devnull() -> None:
    """After a broken pipe, so that flushing the buffer at exit doesn't fail again."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
