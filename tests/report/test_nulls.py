"""Wherever the schema lets a value be null, the page and the comment do without it."""

import copy
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from attn_export.exporter.report import markdown
from attn_export.exporter.report.page.render import render
from tests.report import page
from tests.report.sample import Record, engine, gpu_conditions, sample

SCHEMA = json.loads((Path(__file__).resolve().parents[2] / "docs" / "report.schema.json").read_text(encoding="utf-8"))
Place = tuple[str | int, ...]


@cache
def full() -> Record:
    """A small record in which every list has an entry. Not to be changed."""
    made = sample(blocks=1, rounds=2, precisions=("float32", "float16"))
    made["latency"]["runs"][0]["conditions"]["gpus"] = [gpu_conditions()]
    made["artifacts"].append(engine("model", ["layer1.0.attention"], "CBAM"))
    gpu = {"name": "NVIDIA H100", "driver": "580.1", "memory_mib": 81559, "compute_capability": "9.0"}
    made["environment"]["gpus"] = [gpu]
    return json.loads(json.dumps(made))


def places(value: Any, path: Place = ()) -> Iterator[Place]:
    """All values, of lists the first and the last entry."""
    yield path
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from places(entry, (*path, key))
    elif isinstance(value, list) and value:
        for index in {0, len(value) - 1}:
            yield from places(value[index], (*path, index))


def without(record: Record, *paths: Place) -> Record:
    """The record with null there."""
    made = copy.deepcopy(record)
    for path in paths:
        place: Any = made
        for key in path[:-1]:
            place = place[key] if place is not None else None
        if place is not None:
            place[path[-1]] = None
    return made


@cache
def nullable() -> tuple[Place, ...]:
    """Of values that the schema describes: what stands in an engine's cost is described by its own."""
    validator = jsonschema.Draft202012Validator(SCHEMA)
    found = [p for p in places(full()) if p and "cost" not in p and validator.is_valid(without(full(), p))]
    return tuple(found)


def test_much_may_be_null() -> None:
    assert len(nullable()) > 40
    assert ("latency", "runs", 0, "conditions", "gpus", 0, "others", 0, "memory_mib") in nullable()


@pytest.mark.parametrize("key", sorted({str(path[0]) for path in nullable()}))
def test_all_of_a_part_may_be_null_at_once(key: str) -> None:
    """The innermost values, so that those around them are still there."""
    own = [path for path in nullable() if path[0] == key]
    innermost = [path for path in own if not any(other[: len(path)] == path and other != path for other in own)]
    record = without(full(), *innermost)
    document = page.read(render(record))
    assert "None" not in document.text
    assert "None" not in markdown.render(record)


@pytest.mark.parametrize("path", [p for p in nullable() if len(p) < 3], ids=str)
def test_whole_parts_may_be_null(path: Place) -> None:
    record = without(full(), path)
    assert "None" not in page.read(render(record)).text
    assert "None" not in markdown.render(record)


@pytest.mark.parametrize("key", ["kernels", "kernels_without_attention"])
def test_kernels_of_an_engine_may_not_be_known(key: str) -> None:
    record = copy.deepcopy(full())
    record["artifacts"][2]["cost"][key] = None
    assert "None" not in page.read(render(record)).text


def test_the_gpu_is_described() -> None:
    text = page.read(render(full())).find("section", id="environment")[0].text
    assert "NVIDIA H100, 81559 MiB, driver 580.1, compute capability 9.0" in text
