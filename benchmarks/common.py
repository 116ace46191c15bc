"""What benchmarks share: their options, where figures are kept, and the tables of the docs that show them."""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from attn_export.exporter.records.document import plain
from attn_export.exporter.records.environment import describe

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parents[1] / "docs"


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """The parser of a program with this docstring, with ``--save``."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--save", action="store_true", help="keep the figures in benchmarks/results/, and those of docs/"
    )
    return parser


def words_of(text: str) -> list[str]:
    """What is separated by commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def keep(name: str, **figures: Any) -> None:
    """Write ``results/NAME.json``: figures, and the machine that they are of."""
    document = figures | {"environment": plain(describe())}
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def markdown(heads: Sequence[str], rows: Iterable[Sequence[object]], texts: int = 1) -> str:
    """A table; the first ``texts`` columns are to the left, numbers to the right. None is a dash."""
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * texts + "---:|" * (len(heads) - texts)]
    lines += ["| " + " | ".join("–" if cell is None else str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def show_in_docs(page: str, mark: str, text: str) -> None:
    """Replace what stands in a page between ``<!-- MARK: begin -->`` and ``<!-- MARK: end -->``."""
    path = DOCS / page
    before, rest = path.read_text(encoding="utf-8").split(f"<!-- {mark}: begin -->\n")
    after = rest.partition(f"<!-- {mark}: end -->")[2]
    path.write_text(f"{before}<!-- {mark}: begin -->\n{text}\n<!-- {mark}: end -->{after}", encoding="utf-8")
