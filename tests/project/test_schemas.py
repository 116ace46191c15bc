"""The JSON schemas in docs/ are generated from the types."""

import importlib.util
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from attn_export.exporter.records.document import plain, schema
from tests.budgets.sample import sample_report

DOCS = Path(__file__).resolve().parents[2] / "docs"


def make_schemas() -> Any:
    specification = importlib.util.spec_from_file_location("make_schemas", DOCS / "make_schemas.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["report.schema.json", "engine.schema.json", "compare.schema.json"])
def test_the_schema_is_the_one_of_the_type(name: str) -> None:
    module = make_schemas()
    said = (DOCS / name).read_text(encoding="utf-8")
    assert said == module.schema_text(module.TYPES[name]), "run `make schemas`"


def test_a_report_is_valid_and_a_damaged_one_is_not() -> None:
    report = sample_report()
    jsonschema.validate(plain(report), schema(type(report)))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**plain(report), "created": 3}, schema(type(report)))
