"""Attention in every spelling, from both exporters: the same numbers, the canonical form, known to the inventory."""

from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch

from attn_export.exporter.artifacts import AttentionBlock, Target
from attn_export.exporter.cleanup.inspect import inspect_file
from attn_export.exporter.records.results import CleanResult
from attn_export.exporter.workflows.clean import clean_file
from tests import shared
from tests.cleanup.spellings import (
    CHANNELS,
    SPELLINGS,
    Network,
    Spelling,
    Way,
    difference,
    example,
    export,
    nodes_around,
    noise,
    parsed,
    run,
)


class Case(NamedTuple):
    """One spelling, one way to make a file of it. Every second network has residual sums."""

    spelling: Spelling
    way: Way

    @property
    def residual(self) -> bool:
        return SPELLINGS.index(self.spelling) % 2 == 1

    @property
    def around(self) -> int:
        return nodes_around(1) + self.residual

    def __str__(self) -> str:
        return f"{self.spelling}; {self.way}"


# Every spelling from both exporters; for `make test-all` from the older one in an older opset as well, and of the rest
# of the product a part.
USUAL = [Case(spelling, way) for spelling in SPELLINGS for way in (Way("legacy", 17), Way("dynamo", 18))]
MORE = [
    *(Case(spelling, Way("legacy", (11, 13)[i % 2])) for i, spelling in enumerate(SPELLINGS)),
    *(Case(spelling, Way("legacy", (13, 11, 17)[i % 3], "")) for i, spelling in enumerate(SPELLINGS[::2])),
    *(Case(spelling, Way("dynamo", 20, ("", "batch")[i % 2])) for i, spelling in enumerate(SPELLINGS[::5])),
]
ANY_SIZE = [spelling for spelling in SPELLINGS if spelling.any_size]
USUAL_OPEN = [Case(spelling, Way("legacy", 17, "batch and map")) for spelling in ANY_SIZE]
MORE_OPEN = [Case(spelling, Way("dynamo", 20, "batch and map")) for spelling in ANY_SIZE[::3]]
FIXED_MAPS = [*USUAL, *(pytest.param(case, marks=pytest.mark.full) for case in MORE)]
TARGETS = [Target.ANY, *(pytest.param(t, marks=pytest.mark.full) for t in Target if t is not Target.ANY)]
OPEN_MAPS = [*USUAL_OPEN, *(pytest.param(case, marks=pytest.mark.full) for case in MORE_OPEN)]

Made = Callable[[Case], Path]
Cleaned = Callable[[Case, Target], CleanResult]


def network(case: Case) -> torch.nn.Module:
    return Network(case.spelling, residual=case.residual)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """``made(case)`` is the file as the exporter wrote it."""
    folder = tmp_path_factory.mktemp("made")

    @cache
    def written(case: Case) -> Path:
        path = folder / f"{(USUAL + MORE + USUAL_OPEN + MORE_OPEN).index(case)}.onnx"
        path.write_bytes(shared.once(lambda: export(network(case), path, case.way).read_bytes(), "spelling", str(case)))
        return path

    return written


@pytest.fixture(scope="module")
def cleaned(made: Made) -> Cleaned:
    """``cleaned(case, target)`` is the result of cleaning that file."""

    @cache
    def once(case: Case, target: Target) -> CleanResult:
        source = made(case)
        return clean_file(source, source.with_suffix(f".{target}.onnx"), target=target, threads=1)

    return once


def described(blocks: tuple[AttentionBlock, ...]) -> list[tuple[Any, ...]]:
    return [(b.kind, b.channels, b.reduction, b.kernel, b.module_path) for b in blocks]


def expected_of(spelling: Spelling) -> list[tuple[Any, ...]]:
    return [(spelling.kind, CHANNELS, spelling.reduction, spelling.kernel, "stages.0.attention")]


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", FIXED_MAPS, ids=str)
def test_it_computes_what_the_module_computes(cleaned: Cleaned, case: Case, target: Target) -> None:
    # Three images: the file was made with two, and an open batch has to stay open.
    images = example(batch=3 if case.way.open_axes else 2, seed=9)
    expected = network(case)(torch.from_numpy(images)).numpy()
    result = cleaned(case, target)
    assert difference(run(result.path, input=images)[0], expected) < 1e-4
    assert result.not_compared == ""
    assert result.cleaned.reverted == ()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", OPEN_MAPS, ids=str)
def test_it_computes_that_on_maps_of_other_sizes(cleaned: Cleaned, case: Case, target: Target) -> None:
    result = cleaned(case, target)
    assert result.cleaned.reverted == ()
    for height, width in ((9, 14), (16, 5)):
        images = example(3, height, width, seed=height)
        expected = network(case)(torch.from_numpy(images)).numpy()
        assert difference(run(result.path, input=images)[0], expected) < 1e-4


@pytest.mark.parametrize("case", FIXED_MAPS, ids=str)
def test_what_is_left_is_the_canonical_form(cleaned: Cleaned, case: Case) -> None:
    result = cleaned(case, Target.ANY)
    left = operators(result.path)
    assert result.nodes_after == left.total() <= case.around + case.spelling.most, left
    assert not {"Shape", "Gather", "Expand", "Clip", "BatchNormalization", "MatMul"} & set(left)


@pytest.mark.parametrize("case", OPEN_MAPS, ids=str)
def test_an_open_map_gets_no_node_more(cleaned: Cleaned, case: Case) -> None:
    """Where a size isn't known a rule may keep away."""
    result = cleaned(case, Target.ANY)
    assert result.nodes_after <= result.nodes_before


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", [*FIXED_MAPS, *OPEN_MAPS], ids=str)
def test_the_inventory_says_what_it_is_and_where(cleaned: Cleaned, case: Case, target: Target) -> None:
    result = cleaned(case, target)
    assert described(result.cleaned.blocks) == expected_of(case.spelling)
    assert inspect_file(result.path) == result.cleaned.blocks, "the cleaned file knows as much"


@pytest.mark.parametrize("case", FIXED_MAPS, ids=str)
def test_the_inventory_knows_the_file_as_it_was_exported(made: Made, case: Case) -> None:
    assert described(inspect_file(made(case))) == expected_of(case.spelling)


@pytest.mark.parametrize("case", FIXED_MAPS, ids=str)
def test_the_inventory_counts_the_nodes(cleaned: Cleaned, case: Case) -> None:
    (block,) = cleaned(case, Target.ANY).cleaned.blocks
    assert len(block.nodes) == len(set(block.nodes)) <= case.spelling.most <= block.nodes_before


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "case", [*FIXED_MAPS, *(pytest.param(case, marks=pytest.mark.full) for case in USUAL_OPEN + MORE_OPEN)], ids=str
)
def test_a_second_cleanup_changes_no_byte(cleaned: Cleaned, case: Case, target: Target, tmp_path: Path) -> None:
    first = cleaned(case, target).path
    again = clean_file(first, tmp_path / "again.onnx", target=target, threads=1)
    assert again.path.read_bytes() == first.read_bytes()
    assert again.cleaned.applied == ()


def test_several_blocks_of_one_network_are_reported_apart(tmp_path: Path) -> None:
    se, eca, cbam = SPELLINGS[0], SPELLINGS[15], SPELLINGS[21]
    path = export(Network(se, eca, cbam), tmp_path / "three.onnx", Way("legacy", 17))
    blocks = clean_file(path, tmp_path / "clean.onnx", threads=1).cleaned.blocks
    assert [(b.kind, b.module_path) for b in blocks] == [
        (spelling.kind, f"stages.{i}.attention") for i, spelling in enumerate((se, eca, cbam))
    ]
    assert [len(b.nodes) for b in blocks] == [se.most, eca.most, cbam.most]


def test_a_classifiers_mean_gets_no_node_more(tmp_path: Path) -> None:
    """x.mean((2, 3)) is one node; a pool in the form of the gates' would be two."""
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[N, 16, 12, 12] x) => (float[N, 5] y)
        { m = ReduceMean<axes = [2, 3], keepdims = 0>(x)  y = Gemm(m, w) }"""
    onnx.save(parsed(text, w=noise(16, 5)), tmp_path / "a.onnx")
    result = clean_file(tmp_path / "a.onnx", tmp_path / "b.onnx", threads=1)
    assert result.nodes_after <= result.nodes_before, operators(result.path)


def test_a_gate_that_is_nearly_closed_is_cleaned_alike(tmp_path: Path) -> None:
    """Logits around -20: a result that is all rounding would show a gate that is computed differently."""
    model: Any = Network(SPELLINGS[8])
    with torch.no_grad():
        model.stages[0].attention.expand.bias -= 20.0
    images = example(seed=2)
    expected = model(torch.from_numpy(images)).numpy()
    result = clean_file(export(model, tmp_path / "a.onnx", Way("legacy", 17)), tmp_path / "b.onnx", threads=1)
    np.testing.assert_allclose(run(result.path, input=images)[0], expected, rtol=1e-4, atol=1e-7)


class Row(torch.nn.Module):
    """A spelling that reads another's result, with nothing between them."""

    def __init__(self, *modules: torch.nn.Module) -> None:
        super().__init__()
        self.modules_in_a_row = torch.nn.Sequential(*modules)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.modules_in_a_row(x)


@pytest.mark.parametrize("way", [Way("legacy", 17), pytest.param(Way("dynamo", 18), marks=pytest.mark.full)], ids=str)
@pytest.mark.parametrize("pair", [(0, -1), (3, 3)], ids=str)
def test_two_blocks_in_a_row_have_no_more_nodes_than_both_alone(
    pair: tuple[int, int], way: Way, tmp_path: Path
) -> None:
    def nodes(*spellings: Spelling) -> int:
        layers = [torch.nn.Conv2d(3, CHANNELS, 3), *(spelling.make(CHANNELS) for spelling in spellings)]
        source = export(Row(*layers, torch.nn.ReLU()).eval(), tmp_path / "row.onnx", way)
        return clean_file(source, tmp_path / "clean.onnx", threads=1).nodes_after

    first, second = (SPELLINGS[i] for i in pair)
    assert nodes(first, second) <= nodes(first) + nodes(second) - nodes()
