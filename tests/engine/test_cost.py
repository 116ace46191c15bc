"""What attention costs, next to engines of the same networks without it that were really built."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from attn_export.exporter.engine.backend import Backend
from attn_export.exporter.engine.cost import block_costs
from attn_export.exporter.engine.graph import read_graph
from attn_export.exporter.engine.settings import EngineSettings
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.graph.attention.ablation import without_attention
from attn_export.exporter.graph.read import named, read
from attn_export.exporter.records.engine import BlockCost, EngineCost, KernelReport
from tests.engine.building import build_file
from tests.engine.conftest import Engine
from tests.engine.graphs import conv, gate, gate_weights, gated, node, plain, saved, stated, weight

Network = Callable[..., Path]
Engines = Callable[..., Engine]
WEIGHTS = [weight("w", 8, 8, 3, 3), *gate_weights()]


def costs_of(made: Engine) -> tuple[BlockCost, ...]:
    return block_costs(made.report, made.facts)


def plain_of(path: Path, out: Path) -> Path | None:
    """The file without its attention, which onnx's own checker has seen."""
    model = without_attention(named(read(path)), read_graph(path).blocks)
    if model is None:
        return None
    onnx_file.save(model, out)
    onnx.checker.check_model(str(out), full_check=True)
    assert read_graph(out).blocks == ()
    return out


def assert_consistent(made: Engine) -> None:
    costs = costs_of(made)
    assert [cost.module_path for cost in costs] == [block.place for block in made.facts.blocks]
    attention = {name for block in made.facts.blocks for name in block.nodes}
    for cost, block in zip(costs, made.facts.blocks, strict=True):
        assert cost.kind == block.kind
        assert cost.kernels > 0
        assert 0 <= cost.shared <= cost.kernels
        assert 0 < cost.fused_nodes <= len(block.nodes)
        assert cost.weights_bytes > 0
        assert cost.activation_bytes is None or cost.activation_bytes > 0
    touching = [kernel for kernel in made.report.kernels if attention & set(kernel.nodes)]
    assert max(cost.kernels for cost in costs) <= len(touching) <= sum(cost.kernels for cost in costs)
    exclusive = sum(cost.kernels - cost.shared for cost in costs)
    others = [kernel for kernel in made.report.kernels if not kernel.nodes or not attention.issuperset(kernel.nodes)]
    if all(not set(a.nodes) & set(b.nodes) for a in made.facts.blocks for b in made.facts.blocks if a is not b):
        assert exclusive + len(others) <= len(made.report.kernels)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("se_resnet8", "legacy"),
        ("cbam_resnet8", "short"),
        ("cbam_resnet8", "legacy"),
        ("se_mobilenet_v3_small", "legacy"),
    ],
)
def test_a_network_without_attention_has_the_kernels_of_its_plain_twin(
    network: Network, engine: Engines, tmp_path: Path, name: str, form: str
) -> None:
    """The twin is another network of the zoo, exported and cleaned by itself."""
    made, twin = engine(network(name, form)), engine(network(name.partition("_")[2], form))
    assert_consistent(made)
    path = plain_of(network(name, form), tmp_path / "plain.onnx")
    assert path is not None
    assert len(engine(path).report.kernels) == len(twin.report.kernels)
    assert twin.facts.blocks == ()
    assert costs_of(twin) == ()


def test_blocks_of_small_networks_cost_all_that_is_more(network: Network, engine: Engines) -> None:
    """No kernel of these networks is there because of attention without computing any of it."""
    made, twin = engine(network("cbam_resnet8", "short")), engine(network("resnet8", "short"))
    more = len(made.report.kernels) - len(twin.report.kernels)
    assert more == sum(cost.kernels for cost in costs_of(made))


def test_a_change_of_layout_before_a_pool_belongs_to_no_block(network: Network, engine: Engines) -> None:
    """Which is why blocks cost less than the difference to the twin, besides kernels that are shared."""
    made, twin = engine(network("se_mobilenet_v3_small", "legacy")), engine(network("mobilenet_v3_small", "legacy"))
    more = len(made.report.kernels) - len(twin.report.kernels)
    assert len(costs_of(made)) == 9
    assert sum(cost.kernels - cost.shared for cost in costs_of(made)) <= more


def test_a_graph_as_pytorch_writes_it_has_its_blocks(network: Network, engine: Engines) -> None:
    made = engine(network("se_resnet8", "legacy"))
    assert [cost.module_path for cost in costs_of(made)] == [f"layer{i}.0.attention" for i in (1, 2, 3)]
    assert {cost.kind for cost in costs_of(made)} == {"SE"}


def test_weights_and_bytes_are_those_of_the_layers(engine: Engines, tmp_path: Path) -> None:
    made = engine(gated(tmp_path / "gated.onnx"))
    (cost,) = costs_of(made)
    assert cost.weights_bytes == 2 * 8 * 2 * 4
    assert (cost.kernels, cost.shared, cost.fused_nodes) == (4, 1, 6), "the ReLU behind it is fused with its product"
    assert cost.activation_bytes == 4 * (8 + 2 + 8 + 8 * 8 * 8)


def test_a_network_without_attention_costs_nothing(rtx: Backend, engine: Engines, tmp_path: Path) -> None:
    path = plain(tmp_path / "plain.onnx")
    assert costs_of(engine(path)) == ()
    cost = build_file(path, tmp_path / "plain.engine", EngineSettings(gpus=("sm86",))).record.cost
    assert cost == EngineCost(4, None, ())


def test_without_a_report_nothing_is_claimed(tmp_path: Path) -> None:
    facts = read_graph(gated(tmp_path / "gated.onnx"))
    assert len(facts.blocks) == 1
    assert block_costs(KernelReport((), ""), facts) == ()


def test_two_blocks_in_a_row_are_two(engine: Engines, tmp_path: Path) -> None:
    nodes = [conv("x", "a"), *gate("a", "b", "one"), *gate("b", "c", "two"), node("Relu", "c", "y")]
    made = engine(saved(tmp_path / "row.onnx", nodes, WEIGHTS))
    assert_consistent(made)
    assert len(costs_of(made)) == 2
    path = plain_of(tmp_path / "row.onnx", tmp_path / "plain.onnx")
    assert path is not None
    assert [n.op_type for n in onnx.load(path).graph.node] == ["Conv", "Relu"]
    assert len(engine(path).report.kernels) == 3


def test_a_block_within_a_block_goes_with_it(engine: Engines, tmp_path: Path) -> None:
    nodes = [
        conv("x", "a"),
        node("GlobalAveragePool", "a", "p"),
        *gate("p", "q", "inner"),
        node("Sigmoid", "q", "g"),
        node("Mul", "g a", "b"),
        node("Relu", "b", "y"),
    ]
    assert_consistent(engine(saved(tmp_path / "nested.onnx", nodes, WEIGHTS)))
    path = plain_of(tmp_path / "nested.onnx", tmp_path / "plain.onnx")
    assert path is not None
    assert [n.op_type for n in onnx.load(path).graph.node] == ["Conv", "Relu"]


def test_a_gate_may_be_the_first_factor(tmp_path: Path) -> None:
    nodes = [conv("x", "a"), *gate("a", "b", "se")[:-1], node("Mul", "se_gate a", "b"), node("Relu", "b", "y")]
    path = plain_of(saved(tmp_path / "swapped.onnx", nodes, WEIGHTS), tmp_path / "plain.onnx")
    assert path is not None
    assert [n.op_type for n in onnx.load(path).graph.node] == ["Conv", "Relu"]


def test_the_image_itself_may_be_gated(tmp_path: Path) -> None:
    nodes = [*gate("x", "b", "se"), conv("b", "y")]
    path = plain_of(saved(tmp_path / "image.onnx", nodes, WEIGHTS), tmp_path / "plain.onnx")
    assert path is not None
    assert list(onnx.load(path).graph.node[0].input) == ["x", "w"]


def test_unnamed_nodes_have_their_cost(engine: Engines, tmp_path: Path) -> None:
    model = onnx.load(gated(tmp_path / "gated.onnx"))
    for one in model.graph.node:
        one.name = ""
    onnx.save(model, tmp_path / "unnamed.onnx")
    (named,), (unnamed,) = costs_of(engine(tmp_path / "gated.onnx")), costs_of(engine(tmp_path / "unnamed.onnx"))
    assert named == unnamed
    assert plain_of(tmp_path / "unnamed.onnx", tmp_path / "plain.onnx") is not None


RETURNED = {
    "the gated map": ([conv("x", "a"), *gate("a", "y", "se")], ["y"]),
    "the gated map, which is read as well": (
        [conv("x", "a"), *gate("a", "b", "se"), node("Relu", "b", "y")],
        ["y", "b"],
    ),
    "all of it": (gate("x", "y", "se"), ["y"]),
    "the gate": ([conv("x", "a"), *gate("a", "b", "se"), node("Relu", "b", "y")], ["y", "se_gate"]),
}


@pytest.mark.parametrize("what", RETURNED)
def test_what_a_graph_returns_is_not_taken_out(rtx: Backend, tmp_path: Path, what: str) -> None:
    """There is no such network without attention, and so no number; the engine is built all the same."""
    nodes, names = RETURNED[what]
    outputs = [stated(name, ("N", 8, None, None)) for name in names]
    path = saved(tmp_path / "a.onnx", nodes, WEIGHTS, outputs=outputs)
    assert without_attention(named(read(path)), read_graph(path).blocks) is None
    cost = build_file(path, tmp_path / "a.engine", EngineSettings(gpus=("sm86",))).record.cost
    assert cost.kernels_without_attention is None
    assert len(cost.blocks) == 1


@pytest.mark.parametrize("gpus", [("sm80",), ("sm80", "sm120"), ("sm89", "sm86")])
def test_both_numbers_are_for_the_same_gpus(
    rtx: Backend, network: Network, engine: Engines, tmp_path: Path, gpus: tuple[str, ...]
) -> None:
    """On sm80 some kernels are fused otherwise, and an engine for several GPUs lists those of one of them."""
    source = network("cbam_resnet8", "short")
    cost = build_file(source, tmp_path / "a.engine", EngineSettings(gpus=gpus)).record.cost
    path = plain_of(source, tmp_path / "plain.onnx")
    assert path is not None
    assert cost.kernels == len(engine(source, *gpus).report.kernels)
    assert cost.kernels_without_attention == len(engine(path, *gpus).report.kernels)


def test_the_plain_count_can_be_left_out(rtx: Backend, tmp_path: Path) -> None:
    settings = EngineSettings(gpus=("sm86",), count_ablated=False)
    cost = build_file(gated(tmp_path / "a.onnx"), tmp_path / "a.engine", settings).record.cost
    assert (cost.kernels, cost.kernels_without_attention) == (6, None)
