"""Outlines: every operator is in one, and the attention is marked, in the graph as it was and as it is."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attn_export.exporter.artifacts import Graph, LoadedModel, Target
from attn_export.exporter.cleanup.inspect import outline_of
from attn_export.exporter.cleanup.pipeline import clean
from attn_export.exporter.graph.attention.paths import module_path
from attn_export.exporter.graph.outline import outline
from attn_export.exporter.graph.read import read
from attn_export.exporter.records.cleanup import Cleaned
from attn_export.exporter.records.document import plain
from attn_export.exporter.records.graphs import Marked, Outline
from attn_export.exporter.workflows.clean import clean_file
from tests.cleanup.spellings import (
    DYNAMO,
    LEGACY,
    SE_NODES_OF,
    SPELLINGS,
    Network,
    Spelling,
    Way,
    export,
    parsed,
    se_weights,
)
from tests.cleanup.test_random_networks import FEW
from tests.exporter.conftest import captured, loaded
from tests.shared import capture

__all__ = ["captured", "loaded"]  # the zoo, each network made and captured once

NUMBERS = itertools.count()
# What several blocks may read, and then it belongs to none; and what one reads and another module is said to be of.
SIZING = {"Constant", "Shape", "Squeeze", "Identity"}


def marked(drawn: Outline, index: int | None) -> list[int]:
    """The operators of a block; of None those outside of attention."""
    return [i for i, block in enumerate(drawn.blocks) if block == index]


def assert_whole(drawn: Outline, model_nodes: int) -> None:
    """Every operator once, after what it reads, and in a block that there is."""
    count = len(drawn.operators)
    assert count == model_nodes == len(drawn.names) == len(drawn.inputs) == len(drawn.fixed) == len(drawn.blocks)
    assert len(set(drawn.names)) == count
    for index, inputs in enumerate(drawn.inputs):
        assert all(0 <= source < index for source in inputs)
        assert len(set(inputs)) == len(inputs)
    assert set(drawn.blocks) - {None} == set(range(len(drawn.inventory)))


def outlines(model: ir.Model, target: Target = Target.ANY) -> tuple[Outline, Outline, Cleaned]:
    """Before and after a cleanup, both checked, and what it did."""
    drawn, nodes = outline(model), len(model.graph)
    cleaned = clean(model, target)
    before, after = drawn.marked(cleaned.blocks_before), outline(model, cleaned.blocks)
    assert_whole(before, nodes)
    assert_whole(after, len(model.graph))
    assert cleaned.steps[0].nodes_before == nodes
    return before, after, cleaned


def assert_by_modules(before: Outline, paths: list[str], blocks: int) -> None:
    """A block's operators are those of its module; shared constants, which have no module or another's, are in none."""
    for index, (path, block) in enumerate(zip(paths, before.blocks, strict=True)):
        own = next((i for i in range(blocks) if path.startswith(f"stages.{i}.attention")), None)
        if path and block != own:
            assert before.operators[index] in SIZING
            assert before.fixed[index]


# Blocks of every kind, however they are written.


@pytest.mark.parametrize("spelling", SPELLINGS, ids=str)
def test_a_block_is_marked_before_and_after(spelling: Spelling, tmp_path: Path) -> None:
    model = read(export(Network(spelling, spelling), tmp_path / "model.onnx", LEGACY[0]))
    paths = [module_path(node) for node in model.graph]
    before, after, cleaned = outlines(model)
    names = tuple(Marked(spelling.kind, f"stages.{i}.attention") for i in range(2))
    assert before.inventory == after.inventory == names
    assert_by_modules(before, paths, 2)
    for i, block in enumerate(cleaned.blocks):
        assert len(marked(before, i)) >= block.nodes_before
        assert {after.names[place] for place in marked(after, i)} == set(block.nodes)


@pytest.mark.parametrize(
    ("target", "spelling"), list(zip(Target, (SPELLINGS[1], SPELLINGS[15], SPELLINGS[23]), strict=True)), ids=str
)
def test_what_the_newer_exporter_writes_is_marked_for_every_runtime(
    target: Target, spelling: Spelling, tmp_path: Path
) -> None:
    model = read(export(Network(spelling, spelling), tmp_path / "model.onnx", DYNAMO[1]))
    paths = [module_path(node) for node in model.graph]
    before, after, cleaned = outlines(model, target)
    assert [m.kind for m in before.inventory] == [m.kind for m in after.inventory] == [spelling.kind] * 2
    assert_by_modules(before, paths, 2)
    for i, block in enumerate(cleaned.blocks):
        assert set(block.nodes) <= {after.names[place] for place in marked(after, i)}


@pytest.mark.parametrize(
    ("name", "kind", "blocks", "dynamic"),
    [
        ("se_resnet8", "SE", 3, ("batch", "height", "width")),
        ("cbam_resnet8", "CBAM", 3, ("batch",)),
        ("toy", "SE", 1, ("batch",)),
        ("toy", "SE", 1, ()),
    ],
)
def test_what_is_captured_is_marked(
    loaded: Callable[[str], LoadedModel], name: str, kind: str, blocks: int, dynamic: tuple[str, ...]
) -> None:
    graph = capture(loaded(name), dynamic=dynamic)
    paths = [module_path(node) for node in graph.model.graph]
    before, after, cleaned = outlines(graph.model)
    assert [m.kind for m in before.inventory] == [kind] * blocks == [m.kind for m in after.inventory]
    for place, (path, block) in enumerate(zip(paths, before.blocks, strict=True)):
        within = [i for i, m in enumerate(before.inventory) if f"{path}.".startswith(f"{m.module_path}.")]
        if block != (within[0] if within else None):
            assert before.operators[place] in SIZING
            assert before.fixed[place]
    assert all(block.nodes_before > len(block.nodes) for block in cleaned.blocks)


def test_a_plain_network_has_no_marks(captured: Callable[[str], Graph]) -> None:
    before, after, _ = outlines(captured("resnet8").model)
    for drawn in (before, after):
        assert drawn.inventory == ()
        assert set(drawn.blocks) == {None}
    assert len(after.operators) < len(before.operators)


@settings(max_examples=12, **FEW)
@given(
    blocks=st.lists(st.sampled_from(SPELLINGS), min_size=0, max_size=3),
    residual=st.booleans(),
    way=st.sampled_from(LEGACY),
    target=st.sampled_from(list(Target)),
    seed=st.integers(0, 1000),
)
def test_random_networks_are_whole_and_marked(
    tmp_path_factory: pytest.TempPathFactory,
    blocks: list[Spelling],
    residual: bool,
    way: Way,
    target: Target,
    seed: int,
) -> None:
    path = tmp_path_factory.getbasetemp() / f"outline{next(NUMBERS)}.onnx"
    model = read(export(Network(*blocks, channels=8, residual=residual, seed=seed), path, way))
    paths = [module_path(node) for node in model.graph]
    before, after, cleaned = outlines(model, target)
    places = [f"stages.{i}.attention" for i in range(len(blocks))]
    assert [m.module_path for m in before.inventory] == [m.module_path for m in after.inventory] == places
    assert_by_modules(before, paths, len(blocks))
    assert all(set(b.nodes) <= {after.names[i] for i in marked(after, k)} for k, b in enumerate(cleaned.blocks))


# What belongs to a block that an inventory doesn't list, and what doesn't.

HEADER = '<ir_version: 8, opset_import: ["" : 17]>'
MAP = "float[N, 16, 12, 12]"


def written(nodes: str, path: Path, **weights: Any) -> Path:
    """A file of a graph that makes y of the map x."""
    onnx.save(parsed(f"{HEADER} g ({MAP} x) => ({MAP} y) {{ {nodes} }}", **weights), path)
    return path


def in_blocks(drawn: Outline) -> list[str]:
    return [operator for operator, block in zip(drawn.operators, drawn.blocks, strict=True) if block is not None]


SE_OPERATORS = ["GlobalAveragePool", "Conv", "Relu", "Conv", "Sigmoid", "Mul"]


def test_what_lies_between_two_nodes_of_a_block_is_in_it(tmp_path: Path) -> None:
    nodes = SE_NODES_OF.format(source="x").replace("Relu(h)", "Relu(i)").replace("r = ", "i = Identity(h) r = ")
    drawn = outline_of(read(written(nodes, tmp_path / "model.onnx", **se_weights())))
    assert in_blocks(drawn) == [*SE_OPERATORS[:2], "Identity", *SE_OPERATORS[2:]]


def test_what_comes_before_and_after_is_not(tmp_path: Path) -> None:
    """Everything that reads the convolution is in the block, and so is nothing that it is computed from."""
    nodes = "c = Constant<value = float[1] {2.0}>() x1 = Mul(x, c) x2 = Relu(x1) " + SE_NODES_OF.format(source="x2")
    nodes = nodes.replace("y = Mul(x, g)", "z = Mul(x2, g) y = Relu(z)")
    drawn = outline_of(read(written(nodes, tmp_path / "model.onnx", **se_weights())))
    assert in_blocks(drawn) == SE_OPERATORS
    assert [drawn.operators[i] for i in marked(drawn, None)] == ["Constant", "Mul", "Relu", "Relu"]
    assert drawn.inputs[1] == (0,)


def test_weights_that_are_computed_are_in_the_block_that_reads_them(tmp_path: Path) -> None:
    nodes = "w3 = Mul(w1, two) " + SE_NODES_OF.format(source="x").replace("w1, b1", "w3, b1")
    weights = {**se_weights(), "two": onnx.numpy_helper.to_array(onnx.helper.make_tensor("two", 1, [], [2.0]))}
    drawn = outline_of(read(written(nodes, tmp_path / "model.onnx", **weights)))
    assert sorted(in_blocks(drawn)) == sorted(["Mul", *SE_OPERATORS])
    assert drawn.fixed == (True, *[False] * 6)


def test_a_constant_of_two_blocks_is_in_neither(tmp_path: Path) -> None:
    first = SE_NODES_OF.format(source="x").replace("w1, b1", "w3, b1").replace("y = ", "m = ")
    second = "pp = GlobalAveragePool(m) hh = Conv(pp, w3, b1) rr = Relu(hh) ll = Conv(rr, w2, b2) gg = Sigmoid(ll)"
    nodes = f"w3 = Identity(w1) {first} {second} y = Mul(m, gg)"
    drawn = outline_of(read(written(nodes, tmp_path / "model.onnx", **se_weights())))
    assert drawn.blocks == (None, *[0] * 6, *[1] * 6)


def test_an_activation_is_no_block(tmp_path: Path) -> None:
    drawn = outline_of(read(written("s = Sigmoid(x) y = Mul(x, s)", tmp_path / "model.onnx")))
    assert (drawn.operators, drawn.inputs, drawn.blocks) == (("Sigmoid", "Mul"), ((), (0,)), (None, None))


def test_what_the_body_of_an_if_reads_is_an_input(tmp_path: Path) -> None:
    text = f"""{HEADER} g ({MAP} x, bool t) => ({MAP} y) {{
        a = Relu(x)
        b = Tanh(x)
        y = If (t) <then_branch = then () => ({MAP} p) {{ p = Relu(a) }},
                    else_branch = other () => ({MAP} q) {{ q = Relu(b) }}>
    }}"""
    path = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    drawn = outline_of(read(path))
    assert drawn.operators == ("Relu", "Tanh", "If")
    assert drawn.inputs == ((), (), (0, 1))


# Files.


@pytest.mark.parametrize("target", Target)
def test_a_files_outline_is_that_of_its_graph(target: Target, tmp_path: Path) -> None:
    source = export(Network(SPELLINGS[1], SPELLINGS[21]), tmp_path / "model.onnx", LEGACY[0])
    cleaned = clean_file(source, tmp_path / "clean.onnx", target=target, threads=1)
    told, found = (outline_of(read(cleaned.path), blocks) for blocks in (cleaned.cleaned.blocks, None))
    assert told == found
    assert [m.kind for m in told.inventory] == ["SE", "CBAM"]
    assert_whole(told, cleaned.nodes_after)


def test_a_file_that_was_never_cleaned_is_searched(tmp_path: Path) -> None:
    source = export(Network(SPELLINGS[1], SPELLINGS[21]), tmp_path / "model.onnx", LEGACY[0])
    model = read(source)
    before, _, _ = outlines(model)
    assert outline_of(read(source)) == before


@pytest.mark.parametrize("names", [["", "", "", "", "", ""], ["n"] * 6], ids=["without names", "all of one name"])
def test_nodes_need_no_names(names: list[str], tmp_path: Path) -> None:
    path = written(SE_NODES_OF.format(source="x"), tmp_path / "model.onnx", **se_weights())
    model = onnx.load(path)
    for node, name in zip(model.graph.node, names, strict=True):
        node.name = name
    onnx.save(model, path)
    drawn = outline_of(read(path))
    assert drawn.blocks == (0,) * 6
    assert drawn.inventory == (Marked("SE", ""),)


def test_a_function_is_drawn_as_what_it_calls(tmp_path: Path) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
    g ({MAP} x) => ({MAP} y) {{ r = Relu(x)  y = own.gate(r, w1, b1, w2, b2) }}
    <opset_import: ["" : 17], domain: "own">
    gate (x, w1, b1, w2, b2) => (y) {{ {SE_NODES_OF.format(source="x")} }}"""
    path = tmp_path / "model.onnx"
    onnx.save(parsed(text, **se_weights()), path)
    drawn = outline_of(read(path))
    assert drawn.operators == ("Relu", *SE_OPERATORS)
    assert drawn.blocks == (None, *[0] * 6)


def test_an_outline_changes_no_graph(captured: Callable[[str], Graph]) -> None:
    model = captured("toy").model
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    drawn = outline(model)
    assert drawn.marked(()) == drawn
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


# The record.


def test_outlines_stand_in_a_report_without_names_and_constants(captured: Callable[[str], Graph]) -> None:
    _, after, _ = outlines(captured("toy").model)
    assert after.record.operators == after.operators
    assert [(block.kind, block.module_path) for block in after.record.inventory] == [("SE", "3")]
    assert set(plain(after.record)) == {"operators", "blocks", "inputs", "inventory"}
