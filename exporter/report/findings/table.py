"""A table as plain values; `attn_export.exporter.report.tables` and the page's templates draw it."""

from collections.abc import Sequence
from dataclasses import dataclass

from attn_export.exporter.report.findings.words import shown

GOOD, BAD, UNSURE, PLAIN, QUIET = "good", "bad", "unsure", "plain", "quiet"


@dataclass(frozen=True)
class Cell:
    """One entry, a line; the mark is "good", "bad" or "unsure" for a verdict, "quiet" for minor facts, else "plain"."""

    text: str
    mark: str = PLAIN


@dataclass(frozen=True)
class Column:
    """The head of a column. ``words`` are aligned to the left, numbers to the right."""

    title: str
    words: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells, one for each column. The first column names the row."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str | Cell]]) -> Table:
    """A table from texts, without its empty columns.

    The first column holds words, and so does each whose title begins with ``<``.
    """
    cells = [[entry if isinstance(entry, Cell) else Cell(entry) for entry in row] for row in rows]
    cells = [[Cell(shown(cell.text), cell.mark) for cell in row] for row in cells]
    kept = [i for i in range(len(columns)) if i == 0 or not cells or any(row[i].text for row in cells)]
    return Table(
        shown(caption),
        tuple(Column(shown(columns[i].removeprefix("<")), words=i == 0 or columns[i].startswith("<")) for i in kept),
        tuple(tuple(row[i] for i in kept) for row in cells),
    )
