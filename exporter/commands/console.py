"""What every command prints with: results on standard output, progress on standard error."""

import codecs
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

import typer

from attn_export.exporter.errors import AttnExportError

if TYPE_CHECKING:
    from attn_export.exporter.report.terminal import Part

REDIRECTED_WIDTH = 140
WIDEST_TABLE = 10_000
# What stands in our own tables, where a stream can't hold it; of anything else the number of the character is printed.
PLAIN = {"×": "x", "–": "-", "—": "-", "±": "+-", "…": "...", "→": "->", "≥": ">=", "\u202f": " ", "\u00a0": " "}


def stdout() -> Any:
    """The console for results. A table is as wide as it has to be: half a figure is worse than a line that wraps."""
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    class Whole(Console):
        def print(self, *objects: Any, **options: Any) -> None:
            unbounded = self.options.update(max_width=WIDEST_TABLE)
            widths = [Measurement.get(self, unbounded, made).maximum for made in objects if isinstance(made, Table)]
            usual = self.width
            self.width = max([usual, *widths])
            super().print(*objects, **options)
            self.width = usual

    return Whole(width=None if sys.stdout.isatty() else REDIRECTED_WIDTH, highlight=False)


def print_in_any_encoding() -> None:
    """From now on no character stops a result: of what a stream's encoding lacks, something plain is printed."""
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
    """What hears of the library's progress: on standard error, a moving bar in a terminal and a line elsewhere."""
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
    """The result for machines."""
    from attn_export.exporter.records.document import encode

    try:
        print(encode(record), end="", flush=True)
    except BrokenPipeError:
        redirect_stdout_to_devnull()


def print_with_error(record: Any, error: AttnExportError | None) -> None:
    """Print a result for machines, whose ``error`` says what is wrong although the result is there.

    Raises:
        typer.Exit: there is an error.
    """
    from msgspec import structs

    from attn_export.exporter.records.report import ErrorRecord

    if error is None:
        print_json(record)
        return
    print_json(structs.replace(record, error=ErrorRecord.of(error)))
    raise typer.Exit(error.exit_code)


def command_line(ctx: typer.Context) -> tuple[str, ...]:
    """What was typed, for the record."""
    return ("attn-export", *(ctx.obj or ()))


def redirect_stdout_to_devnull() -> None:
    """Whoever read the result has gone away; what is still buffered must go somewhere."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
