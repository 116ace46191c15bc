"""Wherever a field of a report may be null, the page and the comment do without it."""

import copy
from collections.abc import Iterator
from functools import cache, reduce
from operator import getitem
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from attn_export.exporter.records.document import plain
from attn_export.exporter.records.report import Report
from attn_export.exporter.report import markdown
from attn_export.exporter.report.page.render import render
from attn_export.exporter.system.gpus import Gpu
from tests.report import page
from tests.report.sample import changed, engine, gpu_conditions, sample

Place = tuple[str | int, ...]


@cache
def full() -> Any:
    """A small report as JSON values in which every list has an entry. Not to be changed."""
    report = sample(blocks=1, rounds=2, precisions=("float32", "float16"))
    report = replace(report, artifacts=(*report.artifacts, engine("model", ["layer1.0.attention"], "CBAM")))
    gpu = Gpu("NVIDIA H100", "9.0", 81559, "580.1", "0000:01:00.0")
    return plain(changed(report, {"latency/runs/0/conditions/gpus": [gpu_conditions()], "environment/gpus": [gpu]}))


def places(value: Any, path: Place = ()) -> Iterator[Place]:
    """All values, of lists the first and the last entry."""
    yield path
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from places(entry, (*path, key))
    elif isinstance(value, list) and value:
        for index in {0, len(value) - 1}:
            yield from places(value[index], (*path, index))


def without(document: Any, *paths: Place) -> Any:
    """The document with null there."""
    made = copy.deepcopy(document)
    for path in paths:
        place: Any = made
        for key in path[:-1]:
            place = place[key] if place is not None else None
        if place is not None:
            place[path[-1]] = None
    return made


def is_report(document: Any) -> bool:
    try:
        return bool(msgspec.convert(document, Report))
    except msgspec.ValidationError:
        return False


@cache
def nullable() -> tuple[Place, ...]:
    document = copy.deepcopy(full())
    return tuple(path for path in places(full()) if path and may_be_null(document, path))


def may_be_null(document: Any, path: Place) -> bool:
    place = reduce(getitem, path[:-1], document)
    kept, place[path[-1]] = place[path[-1]], None
    try:
        return is_report(document)
    finally:
        place[path[-1]] = kept


def check(document: Any) -> None:
    report = msgspec.convert(document, Report)
    assert "None" not in page.read(render(report)).text
    assert "None" not in markdown.render(report)


def test_much_may_be_null() -> None:
    assert len(nullable()) > 40
    assert ("latency", "runs", 0, "conditions", "gpus", 0, "others", 0, "memory_mib") in nullable()


@pytest.mark.parametrize("key", sorted({str(path[0]) for path in nullable()}))
def test_all_of_a_part_may_be_null_at_once(key: str) -> None:
    """The innermost values, so that those around them are still there."""
    own = [path for path in nullable() if path[0] == key]
    check(without(full(), *(p for p in own if not any(other[: len(p)] == p and other != p for other in own))))


@pytest.mark.parametrize("path", [p for p in nullable() if len(p) < 3], ids=str)
def test_whole_parts_may_be_null(path: Place) -> None:
    check(without(full(), path))


def test_the_gpu_is_described() -> None:
    text = page.read(render(msgspec.convert(full(), Report))).find("section", id="environment")[0].text
    assert "NVIDIA H100, 81559 MiB, driver 580.1, compute capability 9.0" in text
