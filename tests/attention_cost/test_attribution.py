"""Which block a kernel works for: on what ONNX Runtime really makes of networks, and on fusions that it might make."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import onnx
import pytest

from attn_export.exporter.artifacts import OnnxFile
from attn_export.exporter.graph.attention.members import members_of, owners_of
from attn_export.exporter.graph.read import named, read
from attn_export.exporter.latency.attention_cost.attribution import NO_BLOCK, UNKNOWN, attributed
from attn_export.exporter.latency.attention_cost.naming import Names
from attn_export.exporter.latency.attention_cost.profile import Kernel, profile
from tests.attention_cost.conftest import FORMS, ONE_THREAD, as_file, images_of
from tests.engine.graphs import conv, gate, gate_weights, gated, node, saved, weight

Network = Callable[..., OnnxFile]
WEIGHTS = [weight("w", 8, 8, 3, 3), *gate_weights()]
REORDERS = ("ReorderInput", "ReorderOutput")


def owners_in(file: OnnxFile, folder: Path) -> list[tuple[Kernel, int]]:
    model = named(read(file.path))
    owner = owners_of(members_of(model, file.blocks))
    names = Names(model)
    kernels = profile(model, file.path, file.signature, ONE_THREAD, images_of(file), 1, folder)
    return list(zip(kernels, attributed(kernels, names, owner), strict=True))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["se_resnet8", "cbam_resnet8"])
def test_every_kernel_is_attributed_and_every_block_has_some(
    network: Network, tmp_path: Path, name: str, form: str
) -> None:
    file = network(name, form)
    counts = Counter(owner for _, owner in owners_in(file, tmp_path))
    assert len(file.blocks) == 3
    assert set(counts) == {NO_BLOCK, 0, 1, 2}
    assert all(counts[index] >= 5 for index in range(3))


@pytest.mark.parametrize(
    ("name", "form"), [("se_resnet8", "any"), ("cbam_resnet8", "tensorrt"), ("cbam_resnet8", "any.fp16")]
)
def test_what_is_no_attention_is_what_the_plain_network_runs(
    network: Network, tmp_path: Path, name: str, form: str
) -> None:
    """But for changes of layout, and for what attention keeps from being fused: the addition and the ReLU behind it."""
    file, plain = network(name, form), network(name.partition("_")[2], form)
    left = Counter(kernel.op_type for kernel, owner in owners_in(file, tmp_path) if owner == NO_BLOCK)
    expected = Counter(kernel.op_type for kernel, _ in owners_in(plain, tmp_path))
    for op_type in (*REORDERS, "Cast"):
        del left[op_type], expected[op_type]
    assert left - expected == {"Add": 3, "Relu": 3}
    assert not expected - left


def test_a_plain_network_has_no_attention(network: Network, tmp_path: Path) -> None:
    assert {owner for _, owner in owners_in(network("resnet8"), tmp_path)} == {NO_BLOCK}


def test_kernels_of_an_expanded_function_belong_where_it_stands(network: Network, tmp_path: Path) -> None:
    found = owners_in(network("se_mobilenet_v3_small"), tmp_path)
    inside = [(kernel, owner) for kernel, owner in found if kernel.op_type == "HardSigmoid"]
    assert [owner for _, owner in inside] == [NO_BLOCK], "the one in the classifier; gates are part of convolutions"
    assert UNKNOWN not in {owner for _, owner in found}


def test_a_gate_of_another_make_has_its_kernels(tmp_path: Path) -> None:
    nodes = [
        conv("x", "a"),
        conv("a", "g", "v"),
        node("Sigmoid", "g", "s"),
        node("Mul", "a s", "b"),
        node("Relu", "b", "y"),
    ]
    file = as_file(saved(tmp_path / "other.onnx", nodes, [weight("w", 8, 8, 3, 3), weight("v", 8, 8, 3, 3)]))
    assert [block.kind for block in file.blocks] == ["gate"]
    owners = {kernel.op_type: owner for kernel, owner in owners_in(file, tmp_path) if kernel.op_type != "Conv"}
    assert owners["Mul"] == 0
    assert owners.get("Relu", NO_BLOCK) == NO_BLOCK


def test_a_block_within_a_block_is_one(tmp_path: Path) -> None:
    nodes = [
        conv("x", "a"),
        node("GlobalAveragePool", "a", "p"),
        *gate("p", "q", "inner"),
        node("Sigmoid", "q", "g"),
        node("Mul", "g a", "b"),
        node("Relu", "b", "y"),
    ]
    file = as_file(saved(tmp_path / "nested.onnx", nodes, WEIGHTS))
    assert len(file.blocks) == 1
    assert Counter(owner for _, owner in owners_in(file, tmp_path))[0] >= 6


def test_what_lies_in_a_block_within_another_is_the_inner_one_s(tmp_path: Path) -> None:
    nodes = list(named(read(gated(tmp_path / "gated.onnx"))).graph)
    for members in ([frozenset(nodes), frozenset(nodes[2:4])], [frozenset(nodes[2:4]), frozenset(nodes)]):
        owner = owners_of(members)
        inner = min(range(2), key=lambda index: len(members[index]))
        assert {node for node in nodes if owner[node] == inner} == set(nodes[2:4])
        assert len(owner) == len(nodes)


def test_nodes_without_names_are_reported_apart(tmp_path: Path) -> None:
    model = onnx.load(gated(tmp_path / "gated.onnx"))
    for one in model.graph.node:
        one.name = ""
    onnx.save(model, tmp_path / "nameless.onnx")
    named, nameless = (
        Counter(owner for _, owner in owners_in(as_file(tmp_path / f"{stem}.onnx"), tmp_path))
        for stem in ("gated", "nameless")
    )
    assert named == nameless
    assert named[0] >= 4


# Fusions that this version of ONNX Runtime doesn't make: the graph is x, Conv a, SE b, ReLU y.


class Sketch:
    """Kernels by hand over the graph of `gated`."""

    def __init__(self, folder: Path) -> None:
        self.file = as_file(gated(folder / "gated.onnx"))
        self.model = named(read(self.file.path))
        self.nodes = list(self.model.graph)
        self.owner = owners_of(members_of(self.model, self.file.blocks))
        self.tensors = {value.name: value for node in self.nodes for value in node.outputs}
        self.names = Names(self.model)

    def __getitem__(self, tensor: str) -> str:
        """Its name in the session."""
        return str(self.tensors[tensor].name) if tensor in self.tensors else tensor

    def node(self, tensor: str) -> str:
        """The name of the node that makes it."""
        return next(str(node.name) for node in self.nodes if self.tensors[tensor] in node.outputs)

    def owners(self, kernels: Sequence[Kernel]) -> tuple[int, ...]:
        return attributed(kernels, self.names, self.owner)


@pytest.fixture
def sketch(tmp_path: Path) -> Sketch:
    return Sketch(tmp_path)


def one(name: str, op_type: str, reads: Sequence[str], writes: Sequence[str]) -> Kernel:
    return Kernel(name, op_type, tuple(reads), tuple(writes), 1.0)


def test_a_kernel_with_attention_and_other_work_is_nobody_s(sketch: Sketch) -> None:
    """The product has no kernel of its own, so it is in the one that reads both of its factors."""
    fused = one("fused", "FusedMulRelu", [sketch["a"], sketch["se_gate"]], [sketch["y"]])
    assert sketch.owners([one(sketch.node("se_gate"), "Conv", ["p"], [sketch["se_gate"]]), fused]) == (0, UNKNOWN)


def test_a_kernel_that_reads_the_gated_map_is_not_attention(sketch: Sketch) -> None:
    product = one(sketch.node("b"), "Mul", [sketch["a"], sketch["se_gate"]], [sketch["b"]])
    behind = one("fused", "FusedRelu", [sketch["b"]], [sketch["y"]])
    assert sketch.owners([product, behind]) == (0, NO_BLOCK)


def test_a_kernel_that_nothing_is_known_of_is_nobody_s(sketch: Sketch) -> None:
    kernels = [
        one(f"{sketch['a']}_nchwc", "Conv", ["x", "w"], ["reorder_1"]),
        one("mystery", "Mystery", ["reorder_1"], ["reorder_2"]),
        one(f"{sketch['se_low']}_nchwc", "Conv", ["reorder_2"], ["reorder_3"]),
    ]
    assert sketch.owners(kernels) == (NO_BLOCK, UNKNOWN, 0)


def test_the_first_kernel_of_an_expanded_operator_is_part_of_it(sketch: Sketch) -> None:
    """ReLU y as two kernels: one reads what the operator reads, the other makes what it makes."""
    product = one(sketch.node("b"), "Mul", [sketch["a"], sketch["se_gate"]], [sketch["b"]])
    parts = [one("", "Sign", [sketch["b"]], ["_inl"]), one("", "Mul", [sketch["b"], "_inl"], [sketch["y"]])]
    assert sketch.owners([product, *parts]) == (0, NO_BLOCK, NO_BLOCK)


@pytest.mark.parametrize("op_type", [*REORDERS, "Cast", "Transpose"])
def test_what_only_moves_belongs_to_the_block_that_made_the_map_or_alone_reads_it(sketch: Sketch, op_type: str) -> None:
    kernels = [
        one(f"{sketch['a']}_nchwc", "Conv", ["x", "w"], ["r1"]),
        one("in", op_type, ["r1"], [sketch["a"]]),
        one(sketch.node("se_pool"), "GlobalAveragePool", [sketch["a"]], [sketch["se_pool"]]),
        one("within", op_type, [sketch["se_pool"]], ["r2"]),
        one(f"{sketch['se_gate']}_nchwc", "Conv", ["r2"], ["r3"]),
        one("back", op_type, ["r3"], [sketch["se_gate"]]),
        one(sketch.node("b"), "Mul", [sketch["a"], sketch["se_gate"]], [sketch["b"]]),
        one("out", op_type, [sketch["b"]], ["r4"]),
        one(sketch.node("y"), "Relu", ["r4"], ["r5"]),
        one("last", op_type, ["r5"], [sketch["y"]]),
    ]
    owners = dict(zip((kernel.name for kernel in kernels), sketch.owners(kernels), strict=True))
    assert [owners[name] for name in ("in", "within", "back", "out", "last")] == [0, 0, 0, 0, NO_BLOCK]


def test_a_map_that_others_read_too_is_not_moved_for_the_block(sketch: Sketch) -> None:
    kernels = [
        one(f"{sketch['a']}_nchwc", "Conv", ["x", "w"], ["r1"]),
        one("in", "ReorderOutput", ["r1"], [sketch["a"]]),
        one(sketch.node("se_pool"), "GlobalAveragePool", [sketch["a"]], [sketch["se_pool"]]),
        one(sketch.node("b"), "Mul", [sketch["a"], sketch["se_gate"]], [sketch["b"]]),
        one(sketch.node("y"), "FusedAddRelu", [sketch["a"], sketch["b"]], [sketch["y"]]),
    ]
    assert sketch.owners(kernels) == (NO_BLOCK, NO_BLOCK, 0, 0, NO_BLOCK)


def test_moving_from_what_nothing_is_known_of_is_not_known_either(sketch: Sketch) -> None:
    kernels = [
        one("mystery", "Mystery", ["x"], ["r1"]),
        one("in", "ReorderOutput", ["r1"], ["r2"]),
        one(sketch.node("b"), "Mul", ["r2", sketch["se_gate"]], [sketch["b"]]),
        one(sketch.node("y"), "Relu", [sketch["b"], "r2"], [sketch["y"]]),
    ]
    assert sketch.owners(kernels) == (UNKNOWN, UNKNOWN, 0, NO_BLOCK)


def test_names_that_tell_nothing_leave_everything_to_nobody(sketch: Sketch) -> None:
    """What a version of ONNX Runtime would lead to that made up all names anew."""
    kernels = [one(f"k{i}", "Conv" if i % 2 else "Mul", [f"t{i}"], [f"t{i + 1}"]) for i in range(6)]
    assert set(sketch.owners(kernels)) == {UNKNOWN}
