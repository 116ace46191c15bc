"""A chart with the text and the numbers behind it."""

from dataclasses import dataclass

from attn_export.exporter.report.findings.table import Table


@dataclass(frozen=True)
class Chart:
    """A chart for a page.

    Attributes:
        svg: the picture as markup, with all text escaped; title and description are part of it.
        title: the caption above the chart.
        note: how to read the chart, below it.
        finding: what the chart shows, in sentences, for readers who cannot see it.
        data: the numbers behind the chart.
        width: in CSS pixels.
    """

    svg: str
    title: str
    note: str
    finding: str
    data: Table
    width: int
