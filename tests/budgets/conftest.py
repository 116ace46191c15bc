"""Two reports on disk."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attn_export.exporter.comparison.compare import Comparison, compare
from attn_export.exporter.comparison.read import LoadedReport, read_report

Compared = Callable[..., Comparison]


@pytest.fixture
def compared(tmp_path: Path) -> Compared:
    """``compared(old, new)`` writes two records and compares the files."""

    def of(old: dict[str, Any], new: dict[str, Any], slower: float = 0.05) -> Comparison:
        return compare(saved("old", old), saved("new", new), slower)

    def saved(name: str, record: dict[str, Any]) -> LoadedReport:
        path = tmp_path / f"{name}.report.json"
        path.write_text(json.dumps(record), encoding="utf-8")
        return read_report(path)

    return of
