"""What every command prints with: results on standard output, progress on standard error."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from attn_export.exporter.errors import AttnExportError

SCHEMA_VERSION = 1
REDIRECTED_WIDTH = 140


def stdout() -> Any:
    """The console for results. Where nobody's window sets the width, tables may be as wide as they need to be."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else REDIRECTED_WIDTH, highlight=False)


@contextmanager
def listener(quiet: bool) -> Iterator[Any]:
    """What hears of the library's progress: on standard error, a moving bar in a terminal and a line elsewhere."""
    from attn_export.exporter.progress import Silent
    from attn_export.exporter.report.live import Bars, Lines

    if quiet:
        yield Silent()
    elif sys.stderr.isatty():
        with Bars(sys.stderr) as bars:
            yield bars
    else:
        yield Lines(sys.stderr)


def print_json(document: dict[str, Any]) -> None:
    """The result for machines."""
    try:
        print(json.dumps(document, indent=1, allow_nan=False), flush=True)
    except BrokenPipeError:
        let_go_of_stdout()


def print_with_error(document: dict[str, Any], error: AttnExportError | None) -> None:
    """One document for machines: the result, and what is wrong although it is there.

    Raises:
        typer.Exit: something is.
    """
    if error is None:
        print_json(document)
        return
    said = {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}
    print_json({**document, "error": said})
    raise typer.Exit(error.exit_code)


def command_line(ctx: typer.Context) -> tuple[str, ...]:
    """What was typed, for the record."""
    return ("attn-export", *(ctx.obj or ()))


def let_go_of_stdout() -> None:
    """Whoever read the result has gone away; what is still buffered must go somewhere."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
