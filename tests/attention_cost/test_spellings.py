"""Attention as people write it, from either exporter, uncleaned and cleaned: all of it in one network."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from attn_export.exporter.artifacts import OnnxFile, Target
from attn_export.exporter.graph.attention.ablation import without_attention
from attn_export.exporter.graph.attention.members import members_of, owners_of
from attn_export.exporter.graph.read import named, read
from attn_export.exporter.latency.attention_cost.attribution import NO_BLOCK, UNKNOWN, attributed
from attn_export.exporter.latency.attention_cost.macs import macs_of_blocks
from attn_export.exporter.latency.attention_cost.naming import Names
from attn_export.exporter.latency.attention_cost.profile import profile
from attn_export.exporter.workflows.clean import clean_file
from tests.attention_cost.conftest import ONE_THREAD, as_file, images_of, kernels_of
from tests.cleanup.spellings import SIZE, SPELLINGS, Network, Spelling, Way, export

OPEN = "legacy, all open"
WAYS = {
    "legacy": Way("legacy", 17),
    OPEN: Way("legacy", 13, "batch and map"),
    "dynamo": Way("dynamo", 20),
}
FORMS = [
    ("legacy", None),
    (OPEN, None),
    pytest.param("dynamo", None, marks=pytest.mark.full),
    *(("legacy", target) for target in Target),
]
Written = Callable[[str, Target | None], OnnxFile]


def spellings(way: str) -> list[Spelling]:
    """Some have a size written into them."""
    return [spelling for spelling in SPELLINGS if spelling.any_size or way != OPEN]


def plain(way: str) -> dict[str, int]:
    """Convolutions of the stem and of each stage; the classifier."""
    return {"Conv": 1 + len(spellings(way)), "Gemm": 1}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """All spellings one after the other, every second with a sum around it."""
    folder = tmp_path_factory.mktemp("spellings")

    @cache
    def path_of(way: str, target: Target | None) -> Path:
        path = folder / f"{way}.{target}.onnx"
        if target is not None:
            return clean_file(path_of(way, None), path, target=target, threads=1).path
        return export(Network(*spellings(way)), path, WAYS[way])

    def of(way: str, target: Target | None) -> OnnxFile:
        file = as_file(path_of(way, target))
        return replace(file, signature=file.signature.with_shapes(((1, 3, SIZE, SIZE),)))

    return of


@pytest.mark.parametrize(("way", "target"), FORMS)
def test_every_block_has_kernels_and_no_kernel_is_in_doubt(
    written: Written, tmp_path: Path, way: str, target: Target | None
) -> None:
    file = written(way, target)
    model = named(read(file.path))
    owner = owners_of(members_of(model, file.blocks))
    names = Names(model)
    kernels = profile(model, file.path, file.signature, ONE_THREAD, images_of(file), 1, tmp_path)
    counts = Counter(attributed(kernels, names, owner))
    # Where no size is known, the halves of a CBAM may be two blocks.
    assert len(file.blocks) >= len(spellings(way)) if way == OPEN else len(file.blocks) == len(spellings(way))
    assert all(counts[index] >= 2 for index in range(len(file.blocks)))
    assert counts[UNKNOWN] == 0
    assert counts[NO_BLOCK] >= sum(plain(way).values())


@pytest.mark.parametrize(("way", "target"), FORMS)
def test_without_them_the_convolutions_are_left(
    written: Written, tmp_path: Path, way: str, target: Target | None
) -> None:
    file = written(way, target)
    twin = without_attention(named(read(file.path)), file.blocks)
    assert twin is not None
    operators = Counter(node.op_type for node in twin.graph)
    assert {"Sigmoid", "HardSigmoid", "Mul"}.isdisjoint(operators)
    assert {op: operators[op] for op in plain(way)} == plain(way)
    assert Counter(kernel.op_type for kernel in kernels_of(file, tmp_path, twin))["Conv"] == plain(way)["Conv"]


@pytest.mark.parametrize(("way", "target"), FORMS)
def test_all_have_their_multiplications(written: Written, way: str, target: Target | None) -> None:
    made = macs_of_blocks(written(way, target))
    assert made is not None
    assert all(macs > 0 for macs in made[1])
    assert sum(made[1]) < made[0]
