"""What all tables share."""

from rich.table import Table


def table(title: str, *columns: str) -> Table:
    """A plain table: the first column to the left, numbers to the right."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, column in enumerate(columns):
        made.add_column(column, justify="right" if i else "left", style="" if i else "bold", no_wrap=True)
    return made


def number(value: float | None) -> str:
    """An error, short."""
    return "not a number" if value is None else f"{value:.1e}"
