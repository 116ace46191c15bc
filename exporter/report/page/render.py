"""A report as a single HTML page without scripts, other files or network access."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from attn_export.exporter.records.quantization import Quantization
from attn_export.exporter.records.report import Report
from attn_export.exporter.report.charts.pictures import heat, overlaid, picture
from attn_export.exporter.report.charts.sensitivity import sensitivity_chart
from attn_export.exporter.report.findings.environment import command_line, network_words, title_of
from attn_export.exporter.report.findings.gates import gate_of_card, image_in, image_of
from attn_export.exporter.report.findings.quantization import layers_table, quality_table, steps_table, summary
from attn_export.exporter.report.findings.summary import badges
from attn_export.exporter.report.findings.words import error as format_error
from attn_export.exporter.report.findings.words import shortened, shown
from attn_export.exporter.report.page.sections import SECTIONS

TEMPLATES = Path(__file__).parent / "templates"


def page(template: str, **values: Any) -> str:
    """A page of a template; Jinja2 escapes every text."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: shown(value) if isinstance(value, str) and not hasattr(value, "__html__") else value,
    )
    made.filters |= {
        "shortened": shortened,
        "error": format_error,
        "heat": heat,
        "picture": picture,
        "decoded": image_in,
        "form": lambda part: type(part).__name__,
    }
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    return made.get_template(template).render(style=style, **values)


def render(report: Report) -> str:
    """The page; equal reports give equal pages.

    Jinja2 escapes every text of the report; the charts are markup whose texts are escaped already.
    """
    sections = sorted((section(report) for section in SECTIONS), key=lambda section: not section.first)
    image, gate = image_of(report), gate_of_card(report)
    return page(
        "page.html",
        title=title_of(report),
        created=str(report.created or ""),
        command=command_line(report),
        network=network_words(report),
        badges=badges(report),
        image=image,
        gate=gate,
        gate_picture=overlaid(image, gate) if image and gate and gate.kind == "spatial" else "",
        sections=[section for section in sections if not section.absent],
        absent={section.name: section for section in sections if section.absent},
    )


def render_quantization(record: Quantization) -> str:
    """The page of a quantization; equal records give equal pages."""
    charts = [sensitivity_chart(kind, kind, record.sensitivity) for kind in ("layer", "block")]
    tables = [steps_table(record), quality_table(record), layers_table(record)]
    return page(
        "quantization.html",
        title=f"{record.precision} for {record.runtime}",
        summary=summary(record),
        tables=[table for table in tables if table.rows],
        charts=[chart for chart in charts if chart],
    )
