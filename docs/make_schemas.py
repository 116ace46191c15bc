"""Write the JSON schemas of the documents from their types.

python docs/make_schemas.py
"""

import json
from pathlib import Path
from typing import Any

from attn_export.exporter.records.compare import ComparisonReport
from attn_export.exporter.records.document import schema
from attn_export.exporter.records.engine import EngineRecord
from attn_export.exporter.records.report import Report

DOCS = Path(__file__).resolve().parent
TYPES: dict[str, type[Any]] = {
    "report.schema.json": Report,
    "engine.schema.json": EngineRecord,
    "compare.schema.json": ComparisonReport,
}


def schema_text(kind: type[Any]) -> str:
    """The schema of a document, as it stands in the file."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": kind.__name__}
    return json.dumps(head | schema(kind), indent=1) + "\n"


if __name__ == "__main__":
    for name, kind in TYPES.items():
        (DOCS / name).write_text(schema_text(kind), encoding="utf-8")
