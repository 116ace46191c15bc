"""Networks of random blocks, from either exporter, for a random target: the numbers stay, nodes only go."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from attn_export.exporter.artifacts import Target
from attn_export.exporter.workflows.clean import clean_file
from tests.cleanup.spellings import (
    DYNAMO,
    EVERY_MAP,
    LEGACY,
    SIZE,
    SPELLINGS,
    Network,
    Spelling,
    Way,
    difference,
    example,
    export,
    run,
)

# float32 through up to three gated stages; a miswired graph is off by more than a tenth.
CLOSE = 1e-4
SQUARE_OR_NOT = [(SIZE, SIZE), (9, 15), (16, 7)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("random")


NUMBERS = itertools.count()


def check(
    folder: Path, blocks: list[Spelling], residual: bool, way: Way, target: Target, size: tuple[int, int], seed: int
) -> None:
    if way.open_axes == "batch and map":
        blocks = [block for block in blocks if block.any_size]
    source = folder / f"{next(NUMBERS)}.onnx"
    shape = (3 if way.open_axes else 2, *(size if way.open_axes == "batch and map" else (SIZE, SIZE)))
    images = example(*shape, seed=seed)
    export(Network(*blocks, channels=8, residual=residual, seed=seed), source, way)
    (before,) = run(source, input=images)
    result = clean_file(source, source.with_suffix(".clean.onnx"), target=target, threads=1)
    (after,) = run(result.path, input=images)
    assert difference(after, before) < CLOSE
    assert result.cleaned.reverted == ()
    assert len(result.cleaned.blocks) == len(blocks)
    if target is Target.ANY:
        assert result.nodes_after <= result.nodes_before
    again = clean_file(result.path, source.with_suffix(".again.onnx"), target=target, threads=1)
    assert again.path.read_bytes() == result.path.read_bytes()


COMMON: dict[str, Any] = {
    "blocks": st.lists(st.sampled_from(SPELLINGS), min_size=0, max_size=3),
    "residual": st.booleans(),
    "target": st.sampled_from(list(Target)),
    "size": st.sampled_from(SQUARE_OR_NOT),
    "seed": st.integers(0, 1000),
}
FEW: dict[str, Any] = {
    "deadline": None,
    "derandomize": True,
    "phases": [Phase.explicit, Phase.generate],  # an example is small as it is, and shrinking it takes minutes
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}


@settings(max_examples=20, **FEW)
@given(way=st.sampled_from((*LEGACY, EVERY_MAP[0])), **COMMON)
def test_what_the_older_exporter_writes_computes_the_same(folder: Path, **drawn: Any) -> None:
    check(folder, **drawn)


@settings(max_examples=4, **FEW)
@given(way=st.sampled_from((*DYNAMO, EVERY_MAP[1])), **COMMON)
def test_what_the_newer_exporter_writes_computes_the_same(folder: Path, **drawn: Any) -> None:
    check(folder, **drawn)


@settings(max_examples=8, **FEW)
@given(way=st.sampled_from(LEGACY[:1]), first=st.sampled_from(list(Target)), **COMMON)
def test_what_was_cleaned_for_one_can_be_cleaned_for_another(
    folder: Path, first: Target, way: Way, target: Target, blocks: list[Spelling], residual: bool, seed: int, size: Any
) -> None:
    """Forms for one runtime are an input like any other: right, if not as good as from the original."""
    source = folder / f"{next(NUMBERS)}.onnx"
    images = example(3, seed=seed)
    export(Network(*blocks, channels=8, residual=residual, seed=seed), source, way)
    (before,) = run(source, input=images)
    once = clean_file(source, source.with_suffix(".once.onnx"), target=first, threads=1)
    twice = clean_file(once.path, source.with_suffix(".twice.onnx"), target=target, threads=1)
    assert difference(run(twice.path, input=images)[0], before) < CLOSE
    assert twice.cleaned.reverted == ()
    assert [(b.kind, b.module_path) for b in twice.cleaned.blocks] == [
        (b.kind, b.module_path) for b in once.cleaned.blocks
    ]
