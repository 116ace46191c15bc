"""What every chart is: a picture, what it shows in words, and the numbers behind it."""

from dataclasses import dataclass

from attn_export.exporter.report.findings.table import Table


@dataclass(frozen=True)
class Chart:
    """A chart that stands in a page.

    Attributes:
        svg: the picture, markup in which all text is escaped; its title and description are in it.
        title: half a line.
        note: how to read it, below it.
        finding: what is to be seen in it, in sentences, for those who can't see it.
        data: the numbers that it is drawn from.
        width: in CSS pixels, at which its text has the size of the page's small print.
    """

    svg: str
    title: str
    note: str
    finding: str
    data: Table
    width: int
