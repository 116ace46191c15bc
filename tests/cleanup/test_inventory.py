"""What the inventory takes for attention, what it doesn't, and how a file remembers it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from attn_export.exporter.artifacts import Target
from attn_export.exporter.cleanup.inspect import inspect_file
from attn_export.exporter.graph.attention.blocks import METADATA_KEY, from_json, to_json
from attn_export.exporter.workflows.clean import clean_file
from tests.cleanup.spellings import SE_NODES_OF, SPELLINGS, Network, Way, export, noise, parsed, run, se_weights

HEADER = '<ir_version: 8, opset_import: ["" : 17]>'
MAP = "float[N, 16, 12, 12]"

Written = Callable[..., Path]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """``written(nodes, name=array, ...)`` is a file of a graph that makes y of the maps x and z."""

    def write(nodes: str, y: str = MAP, **weights: Any) -> Path:
        text = f"{HEADER} g ({MAP} x, {MAP} z) => ({y} y) {{ {nodes} }}"
        onnx.save(parsed(text, **weights), tmp_path / "model.onnx")
        return tmp_path / "model.onnx"

    return write


@pytest.fixture(scope="module")
def cbam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported network with an SE and a CBAM block."""
    network = Network(SPELLINGS[1], SPELLINGS[21])
    return export(network, tmp_path_factory.mktemp("inventory") / "model.onnx", Way("legacy", 17))


def kinds(path: Path) -> list[str]:
    return [block.kind for block in inspect_file(path)]


# What is a block, and what is none.


def test_an_se_block_is_found(written: Written) -> None:
    path = written(SE_NODES_OF.format(source="x"), **se_weights())
    (block,) = inspect_file(path)
    assert (block.kind, block.channels, block.reduction, block.kernel) == ("SE", 16, 4, None)
    assert (block.gates, block.maps) == (("l",), ("y",))
    assert block.nodes_before == len(block.nodes) == 6


@pytest.mark.parametrize(
    "nodes",
    [
        "s = Sigmoid(x)  y = Mul(x, s)",
        "s = Sigmoid(x)  y = Mul(s, x)",
        "s = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x)  y = Mul(x, s)",
        "a = Relu(z)  s = Sigmoid(a)  y = Mul(a, s)",
    ],
    ids=["x * sigmoid(x)", "sigmoid(x) * x", "hard swish", "of an activation"],
)
def test_a_silu_is_no_gate(written: Written, nodes: str) -> None:
    assert inspect_file(written(nodes)) == ()


@pytest.mark.parametrize(
    "nodes",
    [
        SE_NODES_OF.format(source="z"),
        "s = Sigmoid(z)  y = Mul(x, s)",
        "a = Add(x, z)  s = Sigmoid(a)  y = Mul(x, s)",
        f"xz = Add(x, z) {SE_NODES_OF.format(source='xz')}",
    ],
    ids=["squeezed from another map", "another map", "a map and another", "squeezed from a sum"],
)
def test_a_gate_computed_from_another_tensor_is_no_block(written: Written, nodes: str) -> None:
    assert inspect_file(written(nodes, **(se_weights() if "w1" in nodes else {}))) == ()


def test_a_gate_from_what_a_convolution_reads_is_no_se(written: Written) -> None:
    """The map that is gated is another one: the 3x3 convolution of what is squeezed."""
    nodes = f"c = Conv<pads = [1, 1, 1, 1]>(x, w3) {SE_NODES_OF.format(source='x').replace('Mul(x', 'Mul(c')}"
    assert "SE" not in kinds(written(nodes, w3=noise(16, 16, 3, 3), **se_weights()))


SLICED = SE_NODES_OF.format(source="x").replace("y = Mul(x, g)", "s = Slice(g, first, last, axis, step)  y = Mul(x, s)")


@pytest.mark.parametrize(("first", "last", "step", "found"), [(0, 99, 1, ["SE"]), (15, -99, -1, [])], ids=str)
def test_a_slice_of_everything_belongs_to_its_gate(
    written: Written, first: int, last: int, step: int, found: list[str]
) -> None:
    """As PyTorch writes ``gate[:, :, None, None]``. One that turns the channels around makes another gate of them."""
    numbers = {"first": first, "last": last, "axis": 1, "step": step}
    assert kinds(written(SLICED, **{name: np.array([n]) for name, n in numbers.items()}, **se_weights())) == found


def test_sums_of_sums_take_no_time(written: Written) -> None:
    """Each sum adds the two before it: followed back, there are more ways than can be walked."""
    nodes = "s0 = Abs(x)  s1 = Neg(x)  " + "".join(f"s{i} = Add(s{i - 1}, s{i - 2})  " for i in range(2, 100))
    assert inspect_file(written(f"{nodes} y = Mul(x, s99)")) == ()


def test_a_multiplication_without_a_sigmoid_is_no_gate(written: Written) -> None:
    assert inspect_file(written("p = GlobalAveragePool(x)  t = Tanh(p)  y = Mul(x, t)")) == ()


def test_a_gate_of_another_make_is_listed_without_a_kind(written: Written) -> None:
    """Pooled and squashed, and no layer in between: attention, but neither SE nor ECA."""
    assert kinds(written("p = GlobalAveragePool(x)  s = Sigmoid(p)  y = Mul(x, s)")) == ["gate"]


def strip(axis: int, source: str = "x", number: int = 0) -> str:
    """A gate of rows (axis 2) or columns: a mean, a convolution along the other axis and a sigmoid."""
    m, c, s, g = (f"{letter}{number or axis}" for letter in "mcsg")
    return f"""{m} = ReduceMean<axes = [{axis}], keepdims = 0>({source})  {c} = Conv<group = 16, pads = [3, 3]>({m}, k)
        {s} = Sigmoid({c})  {g} = Unsqueeze({s}, a{axis}) """


ELA = "u = Mul(x, g2)  y = Mul(u, g3)"


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        (f"{strip(2)} {strip(3)} {ELA}", ["ELA"]),
        (f"{strip(2)} {strip(3)} u = Mul(g2, g3)  y = Mul(x, u)", ["ELA"]),
        (f"{strip(2)} y = Mul(x, g2)", ["gate"]),
        (f"{strip(2)} {strip(2, number=4)} u = Mul(x, g2)  y = Mul(u, g4)", ["gate", "gate"]),
        (f"{strip(2)} u = Mul(x, g2)  {strip(3, 'u')} y = Mul(u, g3)", ["gate", "gate"]),
    ],
    ids=["one after the other", "multiplied first", "rows alone", "rows twice", "of a gated map"],
)
def test_gates_of_rows_and_of_columns_are_ela(written: Written, nodes: str, found: list[str]) -> None:
    weights = {"k": noise(16, 1, 7), "a2": np.array([2]), "a3": np.array([3])}
    assert kinds(written(nodes, **{name: array for name, array in weights.items() if name in nodes})) == found


APART = """p = Conv(x, k)  q = Conv(z, k)  o = Unsqueeze(p, one)  t = Unsqueeze(q, one)  m = Concat<axis = 1>(o, t)  """
OF_ONE = "b = Concat<axis = 1>(x, z)  c = Conv(b, v)  m = Reshape(c, parts)  "
WEIGHED = """s = ReduceSum<keepdims = 0>({source}, one)  i = ReduceMean<axes = [2, 3]>(s)  h = Conv(i, w1)  j = Relu(h)
    l = Conv(j, w2)  n = Reshape(l, pairs)  g = Softmax<axis = 1>(n)  f = Mul(m, g)
    y = ReduceSum<keepdims = 0>(f, {axis})"""
SUMMED = WEIGHED.format(source="m", axis="one")


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        (APART + SUMMED, ["selective kernels"]),
        (OF_ONE + SUMMED, ["split attention"]),
        (f"{APART} e = Unsqueeze(z, one)  {WEIGHED.format(source='e', axis='one')}", []),
        (APART + WEIGHED.format(source="m", axis="two"), []),
        (APART + SUMMED.replace("Softmax<axis = 1>", "Relu"), []),
    ],
    ids=["SK", "ResNeSt", "of another map", "summed over channels", "without a softmax"],
)
def test_branches_weighed_by_a_softmax(written: Written, nodes: str, found: list[str]) -> None:
    weights = {"k": noise(16, 16, 1, 1), "v": noise(32, 32, 1, 1), "w1": noise(4, 16, 1, 1), "w2": noise(32, 4, 1, 1)}
    weights |= {"one": np.array([1]), "two": np.array([2]), "pairs": np.array([0, 2, 16, 1, 1])}
    weights |= {"parts": np.array([0, 2, 16, 12, 12])}
    y = "float[N, 2, 12, 12]" if "(f, two)" in nodes else MAP
    assert kinds(written(nodes, y, **weights)) == found


def test_a_blocks_place_is_its_module_or_else_its_map(written: Written, cbam: Path) -> None:
    assert [block.place for block in inspect_file(cbam)] == ["stages.0.attention", "stages.1.attention"]
    assert [block.place for block in inspect_file(written(SE_NODES_OF.format(source="x"), **se_weights()))] == ["y"]


def test_the_names_of_weights_tell_the_module_where_nothing_else_does(written: Written) -> None:
    weights = se_weights()
    text = f"{HEADER} g ({MAP} x) => ({MAP} y) {{ {SE_NODES_OF.format(source='x')} }}"
    model = parsed(text, **weights)
    named = {"w1": "layer1.0.se.fc1.weight", "b1": "layer1.0.se.fc1.bias"}
    named |= {"w2": "layer1.0.se.fc2.weight", "b2": "layer1.0.se.fc2.bias"}
    for tensor in model.graph.initializer:
        tensor.name = named[tensor.name]
    for node in model.graph.node:
        node.input[:] = [named.get(name, name) for name in node.input]
    path = written("y = Add(x, z)")
    onnx.save(model, path)
    assert [block.module_path for block in inspect_file(path)] == ["layer1.0.se"]


def test_inspecting_changes_no_file(cbam: Path) -> None:
    before = {path.name: path.read_bytes() for path in cbam.parent.iterdir() if path.is_file()}
    inspect_file(cbam)
    assert {path.name: path.read_bytes() for path in cbam.parent.iterdir() if path.is_file()} == before


# What a cleaned file remembers.


@pytest.mark.parametrize("target", Target)
def test_cleaning_for_anything_keeps_kind_place_and_counts(cbam: Path, tmp_path: Path, target: Target) -> None:
    before = inspect_file(cbam)
    after = clean_file(cbam, tmp_path / "clean.onnx", target=target, threads=1).cleaned.blocks
    told = [(b.kind, b.module_path, b.channels, b.reduction, b.kernel, b.nodes_before) for b in before]
    assert [(b.kind, b.module_path, b.channels, b.reduction, b.kernel, b.nodes_before) for b in after] == told
    assert inspect_file(tmp_path / "clean.onnx") == after


@pytest.mark.parametrize("target", Target)
def test_the_nodes_that_are_named_are_in_the_file(cbam: Path, tmp_path: Path, target: Target) -> None:
    blocks = clean_file(cbam, tmp_path / "clean.onnx", target=target, threads=1).cleaned.blocks
    graph = onnx.load(tmp_path / "clean.onnx").graph
    nodes = {node.name for node in graph.node}
    values = {name for node in graph.node for name in node.output}
    for block in blocks:
        assert set(block.nodes) <= nodes
        assert {*block.gates, *block.maps} <= values
        assert len(block.gates) == len(block.maps) == (2 if block.kind == "CBAM" else 1)


@pytest.mark.parametrize("target", [Target.TENSORRT, Target.ONNXRUNTIME])
def test_the_count_before_is_that_of_the_first_file(cbam: Path, tmp_path: Path, target: Target) -> None:
    """Cleaned twice, for two runtimes: "before" is what the exporter wrote."""
    first = clean_file(cbam, tmp_path / "first.onnx", threads=1).cleaned.blocks
    second = clean_file(tmp_path / "first.onnx", tmp_path / "second.onnx", target=target, threads=1).cleaned.blocks
    assert [b.nodes_before for b in second] == [b.nodes_before for b in first]
    assert [b.nodes_before for b in second] == [b.nodes_before for b in inspect_file(cbam)]


def test_the_metadata_are_the_inventory(cbam: Path, tmp_path: Path) -> None:
    blocks = clean_file(cbam, tmp_path / "clean.onnx", threads=1).cleaned.blocks
    (entry,) = (p.value for p in onnx.load(tmp_path / "clean.onnx").metadata_props if p.key == METADATA_KEY)
    assert from_json(entry) == blocks
    assert to_json(blocks) == entry


def test_the_metadata_survive_other_tools(cbam: Path, tmp_path: Path) -> None:
    blocks = clean_file(cbam, tmp_path / "clean.onnx", target=Target.TENSORRT, threads=1).cleaned.blocks
    onnx.save(onnx.load(tmp_path / "clean.onnx"), tmp_path / "copied.onnx")
    assert inspect_file(tmp_path / "copied.onnx") == blocks


def test_a_file_without_attention_gets_no_note(written: Written, tmp_path: Path) -> None:
    clean_file(written("y = Add(x, z)"), tmp_path / "clean.onnx", threads=1)
    assert not onnx.load(tmp_path / "clean.onnx").metadata_props


# What others wrote under our key.

BLOCK: dict[str, Any] = {
    "kind": "SE",
    "module_path": "layer1",
    "channels": 16,
    "reduction": 4,
    "kernel": None,
    "gates": ["l"],
    "maps": ["y"],
    "nodes": ["a"],
    "nodes_before": 6,
}
DAMAGED = {
    "nothing": "",
    "no JSON": "{",
    "half": json.dumps([BLOCK])[:60],
    "null": "null",
    "a number": "42",
    "a text": '"SE"',
    "an object": json.dumps(BLOCK),
    "a list of numbers": "[1, 2]",
    "an empty block": "[{}]",
    "a block without maps": json.dumps([{k: v for k, v in BLOCK.items() if k != "maps"}]),
    "a block of no map": json.dumps([{**BLOCK, "maps": []}]),
    "maps that are a number": json.dumps([{**BLOCK, "maps": 3}]),
    "maps that are numbers": json.dumps([{**BLOCK, "maps": [1]}]),
    "a count that is a text": json.dumps([{**BLOCK, "nodes_before": "six"}]),
    "a kind that is a list": json.dumps([{**BLOCK, "kind": ["SE"]}]),
    "a path that is a number": json.dumps([{**BLOCK, "module_path": 7}]),
    "channels that are a text": json.dumps([{**BLOCK, "channels": "many"}]),
    "no number": json.dumps([{**BLOCK, "channels": float("nan")}]),
    "lists in lists": "[" * 100_000,
}


@pytest.mark.parametrize("entry", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_metadata_are_ignored(written: Written, tmp_path: Path, entry: str) -> None:
    path = written(SE_NODES_OF.format(source="x"), **se_weights())
    expected = inspect_file(path)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {METADATA_KEY: entry})
    onnx.save(model, path)
    assert inspect_file(path) == expected
    result = clean_file(path, tmp_path / "clean.onnx", threads=1)
    assert [(b.kind, b.module_path, b.channels, b.nodes_before) for b in result.cleaned.blocks] == [("SE", "", 16, 6)]
    assert inspect_file(tmp_path / "clean.onnx") == result.cleaned.blocks


def test_metadata_of_another_graph_say_nothing_of_this_one(written: Written, cbam: Path, tmp_path: Path) -> None:
    path = written(SE_NODES_OF.format(source="x"), **se_weights())
    expected, foreign = inspect_file(path), inspect_file(cbam)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {METADATA_KEY: to_json(foreign)})
    onnx.save(model, path)
    assert inspect_file(path) == expected


def without_sigmoids(model: onnx.ModelProto) -> None:
    """Another activation in the place of every gate's."""
    for node in model.graph.node:
        if node.op_type == "Sigmoid":
            node.op_type = "Tanh"


def without_maps(model: onnx.ModelProto) -> None:
    """What computed the gated maps now computes other tensors."""
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [f"other/{name}" if name not in KEPT else name for name in names]
    for weight in model.graph.initializer:
        weight.name = f"other/{weight.name}"
    del model.graph.value_info[:]


KEPT = ("", "x", "y", "input", "output")


@pytest.mark.parametrize("edit", [without_sigmoids, without_maps])
def test_an_inventory_does_not_count_for_a_graph_that_was_edited_since(
    cbam: Path, tmp_path: Path, edit: Callable[[onnx.ModelProto], None]
) -> None:
    """All names of nodes are as before."""
    clean_file(cbam, tmp_path / "clean.onnx", threads=1)
    model = onnx.load(tmp_path / "clean.onnx")
    edit(model)
    onnx.save(model, tmp_path / "edited.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    edited, bare = inspect_file(tmp_path / "edited.onnx"), inspect_file(tmp_path / "bare.onnx")
    assert [(block.maps, block.gates) for block in edited] == [(block.maps, block.gates) for block in bare]


def test_an_inventory_is_read_as_it_was_written(cbam: Path) -> None:
    blocks = inspect_file(cbam)
    odd = (*blocks, replace(blocks[0], module_path='größe "1"\n', channels=None, reduction=None, gates=("", "é")))
    assert from_json(to_json(odd)) == odd


def test_the_gated_map_is_what_it_was(cbam: Path, tmp_path: Path) -> None:
    """The name in the inventory can be made an output: its content is that of the original's tensor of that name."""
    blocks = clean_file(cbam, tmp_path / "clean.onnx", threads=1).cleaned.blocks
    images = noise(2, 3, 12, 12)
    results = []
    for path in (cbam, tmp_path / "clean.onnx"):
        model = onnx.load(path)
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for block in blocks for name in block.maps)
        results.append(run(model.SerializeToString(), input=images))
    assert len(results[0]) == 4
    for before, after in zip(*results, strict=True):
        assert abs(before - after).max() < 1e-5 * abs(before).max()
