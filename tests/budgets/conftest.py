"""Two reports on disk."""

from collections.abc import Callable
from pathlib import Path

import pytest

from attn_export.exporter.comparison.compare import compare
from attn_export.exporter.comparison.read import TimedReport, read_timed_report
from attn_export.exporter.records.budget import Budget
from attn_export.exporter.records.compare import ComparisonReport
from attn_export.exporter.records.document import encode
from attn_export.exporter.records.report import Report

Compared = Callable[..., ComparisonReport]


@pytest.fixture
def compared(tmp_path: Path) -> Compared:
    """``compared(old, new)`` writes two reports and compares the files."""

    def of(old: Report, new: Report, slower: float = 0.05, budgets: tuple[Budget, ...] = ()) -> ComparisonReport:
        return compare(saved("old", old), saved("new", new), slower, budgets)

    def saved(name: str, report: Report) -> TimedReport:
        path = tmp_path / f"{name}.report.json"
        path.write_text(encode(report), encoding="utf-8")
        return read_timed_report(path)

    return of
