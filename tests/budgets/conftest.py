"""Two reports on disk."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attn_export.exporter.comparing import Comparison, compare, read_report

Compared = Callable[..., Comparison]


@pytest.fixture
def compared(tmp_path: Path) -> Compared:
    """``compared(old, new)`` writes two records and compares the files."""

    def of(old: dict[str, Any], new: dict[str, Any], slower: float = 0.05) -> Comparison:
        reports = []
        for name, record in (("old", old), ("new", new)):
            path = tmp_path / f"{name}.report.json"
            path.write_text(json.dumps(record), encoding="utf-8")
            reports.append(read_report(path))
        return compare(*reports, slower)

    return of
