"""Writes a report as an HTML page, as Markdown or as JSON."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from attn_export.exporter.errors import OutputError, RuntimeUnavailableError, UsageError, first_line
from attn_export.exporter.records.document import encode
from attn_export.exporter.records.report import Report
from attn_export.exporter.system.files import SCRATCH, unwritable, write_text, written_atomically

INSTALL = "pip install -c constraints.txt -e '.[report]'"


def check_reports(paths: Sequence[Path]) -> None:
    """Check before the work begins that the reports can be written.

    Raises:
        UsageError: an extension is unknown, or a file is named twice.
        OutputError: a folder can't be written, or the name is taken by something other than a file.
        RuntimeUnavailableError: the libraries for HTML pages aren't installed.
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


def write_reports(report: Report, paths: Sequence[Path]) -> None:
    """Write a report in the format of each extension, atomically.

    Args:
        report: of any run.
        paths: with the extension .html, .md or .json; missing folders are created.

    Raises:
        As `check_reports`; and OutputError: the disk is full.
    """
    written = [(path, FORMATS[path.suffix.lower()](report)) for path in paths]
    for path, text in written:
        with written_atomically(path) as temporary:
            write_text(temporary, text)


def write_report(report: Report, path: Path | str) -> None:
    """Write one report: ``write_report(result.report, "report.html")``.

    Raises:
        As `check_reports`; and OutputError: the disk is full.
    """
    paths = [Path(path)]
    check_reports(paths)
    write_reports(report, paths)


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


def _page_renderer() -> Callable[[Report], str]:
    """The renderer of pages, whose libraries are optional."""
    try:
        from attn_export.exporter.report.page.render import render
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"a report as a page needs matplotlib and Jinja2: {first_line(error)}",
            runtime="report",
            hint=f"{INSTALL}, or ask for report.md, which needs nothing.",
        ) from error
    return render


def _page(report: Report) -> str:
    return _page_renderer()(report)


def _comment(report: Report) -> str:
    from attn_export.exporter.report.markdown import render

    return render(report)


FORMATS: Mapping[str, Callable[[Report], str]] = {".html": _page, ".md": _comment, ".json": encode}
