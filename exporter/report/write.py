"""Writes a report as an HTML page, a summary card, Markdown or JSON."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from attn_export.exporter.errors import OutputError, RuntimeUnavailableError, UsageError, first_line
from attn_export.exporter.records.document import encode
from attn_export.exporter.records.report import Report
from attn_export.exporter.records.sweep import SweepReport
from attn_export.exporter.report.markdown import render, render_comparison
from attn_export.exporter.report.sweep.table import as_csv, as_jsonl
from attn_export.exporter.system.files import SCRATCH, is_taken, unwritable, write_text
from attn_export.exporter.system.generation import publish_together
from attn_export.exporter.system.scratch import scratch_folder

INSTALL = "pip install -c constraints.txt -e '.[report]'"
DRAWN = (".html", ".png")
Formats = Mapping[str, Callable[[Any], str | bytes]]


def _drawing(module: str) -> ModuleType:
    """A module of this package that draws, whose libraries are optional."""
    try:
        return import_module(f"attn_export.exporter.report.{module}")
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"a report as a page or a card needs matplotlib and Jinja2: {first_line(error)}",
            hint=f"{INSTALL}, or ask for report.md, which needs nothing.",
        ) from error


def _drawn(module: str, function: str) -> Callable[[Any], str | bytes]:
    """A renderer that is imported when it is used."""
    return lambda record: getattr(_drawing(module), function)(record)


# Renderers by extension: of a `Report`, and of a `ComparisonReport`.
FORMATS: Formats = {
    ".html": _drawn("page.render", "render"),
    ".md": render,
    ".json": encode,
    ".png": _drawn("charts.card", "render_card"),
}
COMPARISON_FORMATS: Formats = {".md": render_comparison, ".json": encode}
QUANTIZATION_FORMATS: Formats = {".html": _drawn("page.render", "render_quantization"), ".json": encode}
SWEEP_FORMATS: Formats = {".jsonl": as_jsonl, ".csv": as_csv, ".html": _drawn("page.sweep", "render_sweep")}


def check_reports(paths: Sequence[Path], formats: Formats = FORMATS, *, sources: Sequence[Path] = ()) -> None:
    """Check before the work begins that the reports can be written.

    No report may replace one of the sources.

    Raises:
        UsageError: an extension is unknown, a file is named twice, or it is one of the sources.
        OutputError: a folder can't be written, or the name is taken by something other than a file.
        RuntimeUnavailableError: the libraries that draw aren't installed.
    """
    for path in paths:
        if path.suffix.lower() not in formats:
            raise UsageError(
                f"--report {path}: the ending is {path.suffix or 'missing'}, expected is one of {', '.join(formats)}",
                hint=f"For example --report {path.stem}.md.",
            )
    taken = [source.resolve() for source in sources]
    for path in paths:
        if (place := path.resolve()) in taken:
            twice = place in taken[len(sources) :]
            reason = "is asked for twice" if twice else "would replace a report that is compared"
            raise UsageError(f"--report {path} {reason}", hint="Choose another name.")
        taken.append(place)
        _check_place(path)
    if any(path.suffix.lower() in DRAWN for path in paths):
        _drawing("page.render")  # imports all that draws


def write_reports(record: Any, paths: Sequence[Path], formats: Formats = FORMATS) -> None:
    """Write a record in the format of each extension; the files in a folder appear together.

    Raises as `check_reports`, and OutputError.
    """
    written = {path: formats[path.suffix.lower()](record) for path in paths}
    for folder in dict.fromkeys(path.parent for path in paths):
        with scratch_folder(folder) as scratch:
            moves = [(scratch / path.name, path) for path in paths if path.parent == folder]
            for temporary, path in moves:
                content = written[path]
                try:
                    write_text(temporary, content) if isinstance(content, str) else temporary.write_bytes(content)
                except OSError as error:
                    raise unwritable(path, error) from error
            publish_together(moves, scratch)


def write_report(report: Report, path: Path | str) -> None:
    """Write one report: ``write_report(result.report, "report.html")``. Raises as `check_reports`, and OutputError."""
    paths = [Path(path)]
    check_reports(paths)
    write_reports(report, paths)


def can_draw() -> bool:
    """Whether the libraries that draw are installed."""
    return all(find_spec(name) for name in ("matplotlib", "jinja2"))


def write_sweep(report: SweepReport, folder: Path) -> tuple[Path, ...]:
    """Write ``results.jsonl``, ``results.csv``, and ``results.html`` if it can be drawn. Raises OutputError."""
    paths = tuple(folder / f"results{ending}" for ending in SWEEP_FORMATS if ending not in DRAWN or can_draw())
    write_reports(report, paths, SWEEP_FORMATS)
    return paths


def _check_place(path: Path) -> None:
    if is_taken(path) and not path.is_file():
        kind = "a folder" if path.is_dir() else "no file"
        raise OutputError(f"{path} is there and is {kind}", hint="Choose another name for the report.")
    try:
        folder = next(parent for parent in path.resolve().parents if parent.exists())
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=folder):
            pass
    except OSError as error:
        raise unwritable(path, error) from error
