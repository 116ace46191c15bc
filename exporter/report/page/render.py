"""A report as a single HTML page without scripts, other files or network access."""

from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from attn_export.exporter.records.report import Report
from attn_export.exporter.report.findings.environment import command_line, network_words, title_of
from attn_export.exporter.report.findings.summary import badges
from attn_export.exporter.report.findings.words import error as format_error
from attn_export.exporter.report.findings.words import shortened, shown
from attn_export.exporter.report.page import (
    attention,
    budgets,
    environment,
    error,
    gates,
    graph,
    latency,
    precision,
)
from attn_export.exporter.report.page.section import Section

HERE = Path(__file__).parent / "templates"
SECTIONS: tuple[Callable[[Report], Section], ...] = (
    latency.section,
    error.section,
    graph.section,
    attention.section,
    gates.section,
    precision.section,
    budgets.section,
    environment.section,
)


def render(report: Report) -> str:
    """The page; equal reports give equal pages.

    Jinja2 escapes every text of the report; the charts are markup whose texts are escaped already.

    Args:
        report: of any run; the page names the sections for which it has no content.
    """
    templates = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: shown(value) if isinstance(value, str) and not hasattr(value, "__html__") else value,
    )
    templates.filters |= {"shortened": shortened, "error": format_error}
    sections = [section(report) for section in SECTIONS]
    return templates.get_template("page.html").render(
        title=title_of(report),
        created=str(report.created or ""),
        command=command_line(report),
        network=network_words(report),
        badges=badges(report),
        sections=[section for section in sections if not section.absent],
        missing=[section for section in sections if section.absent],
        style=(HERE / "style.css").read_text(encoding="utf-8"),
    )
