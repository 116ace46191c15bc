"""A record and the names of files, to reports: a page, Markdown for a comment, or the record itself."""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attn_export.exporter.errors import OutputError, RuntimeUnavailableError, UsageError, first_line
from attn_export.exporter.system.files import SCRATCH, unwritable, write_text, written_atomically

INSTALL = "pip install -c constraints.txt -e '.[report]'"


def check_reports(paths: Sequence[Path]) -> None:
    """Find out before the work begins whether the reports that are asked for can be written.

    Raises:
        UsageError: an ending isn't known, or a file is asked for twice.
        OutputError: a folder can't be written, or something else has the name.
        RuntimeUnavailableError: what draws a page isn't installed.
    """
    for path in paths:
        if path.suffix.lower() not in FORMATS:
            known = ", ".join(FORMATS)
            raise UsageError(
                f"{path} can't be a report: its ending is {path.suffix or 'missing'}, expected is one of {known}",
                hint="A page for people is report.html, a comment for a pull request report.md.",
            )
    places = [path.resolve() for path in paths]
    for index, place in enumerate(places):
        if place in places[:index]:
            raise UsageError(f"{paths[index]} is asked for twice", hint="Name each report once.")
    for path in paths:
        _check_place(path)
    if any(path.suffix.lower() == ".html" for path in paths):
        _page_renderer()


def write_reports(record: Mapping[str, Any], paths: Sequence[Path]) -> None:
    """Write the record in the form that each ending says; no file is there half.

    Args:
        record: as docs/report.md describes it.
        paths: ending in .html, .md or .json; folders are made where there are none.

    Raises:
        As `check_reports`; and OutputError: the disk is full.
    """
    # What is drawn is what the file of the record holds, so that both give the same page.
    plain = json.loads(json.dumps(record, allow_nan=False))
    written = [(path, FORMATS[path.suffix.lower()](plain)) for path in paths]
    for path, text in written:
        with written_atomically(path) as temporary:
            write_text(temporary, text)


def _check_place(path: Path) -> None:
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "no file"
        raise OutputError(f"{path} is there and is {kind}", hint="Choose another name for the report.")
    try:
        folder = next(parent for parent in path.resolve().parents if parent.exists())
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=folder):
            pass
    except OSError as error:
        raise unwritable(path, error) from error


def _page_renderer() -> Callable[[dict[str, Any]], str]:
    """What draws a page; it and its libraries are imported here for the first time."""
    try:
        from attn_export.exporter.report.page.render import render
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"a report as a page needs matplotlib and Jinja2: {first_line(error)}",
            runtime="report",
            hint=f"{INSTALL}, or ask for report.md, which needs nothing.",
        ) from error
    return render


def _page(record: dict[str, Any]) -> str:
    return _page_renderer()(record)


def _comment(record: dict[str, Any]) -> str:
    from attn_export.exporter.report.markdown import render

    return render(record)


def _document(record: dict[str, Any]) -> str:
    return json.dumps(record, indent=1, allow_nan=False) + "\n"


FORMATS: Mapping[str, Callable[[dict[str, Any]], str]] = {".html": _page, ".md": _comment, ".json": _document}
