"""Tables in a terminal."""

from rich.table import Table as RichTable
from rich.text import Text

from attn_export.exporter.report.findings.table import BAD, GOOD, QUIET, UNSURE, Table

STYLES = {GOOD: "green", BAD: "bold red", UNSURE: "yellow", QUIET: "dim"}


def table(title: str, *columns: str) -> RichTable:
    """An empty table: the first column to the left, numbers to the right."""
    grid = RichTable(
        title=Text(title) if title else None,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for i, column in enumerate(columns):
        grid.add_column(column, justify="right" if i else "left", style="" if i else "bold", no_wrap=True)
    return grid


def rendered(data: Table) -> RichTable:
    """The table for a terminal. Its last column wraps if it holds words."""
    grid = table(data.caption, *(column.title for column in data.columns))
    grid.show_header = any(column.title for column in data.columns)
    for column, made in zip(data.columns, grid.columns, strict=True):
        made.header = Text(column.title)
        made.justify = "left" if column.words else "right"
    if len(data.columns) > 1 and data.columns[-1].words:
        grid.columns[-1].no_wrap, grid.columns[-1].overflow = False, "fold"
    for row in data.rows:
        grid.add_row(*(Text(cell.text, STYLES.get(cell.mark, "")) for cell in row))
    return grid
