"""A record as one HTML page that needs nothing else: no network, no script, no other file."""

from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from attn_export.exporter.records.report import Report
from attn_export.exporter.report.findings.environment import command_line, network_words, title_of
from attn_export.exporter.report.findings.summary import badges
from attn_export.exporter.report.findings.words import shown
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
    """The page.

    The same record always gives the same page. Every text of the record is escaped; only charts, whose texts are
    escaped where they are drawn, stand in it as they are.

    Args:
        report: as docs/report.md describes it; parts that aren't there are left out, or said to be missing.
    """
    templates = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: shown(value) if isinstance(value, str) and not hasattr(value, "__html__") else value,
    )
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
