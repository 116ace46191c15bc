"""A gate is a Sigmoid or HardSigmoid that is not the half of a SiLU."""

from collections.abc import Callable

import onnx_ir as ir
import pytest

from attn_export.exporter.artifacts import MODULE_KEY, Gate, Graph
from attn_export.exporter.cleanup.pipeline import clean_graph
from attn_export.exporter.graph.gates import gates_of


def graph(body: str) -> ir.Model:
    """``x`` and ``z`` go in, ``y`` comes out."""
    head = '<ir_version: 10, opset_import: ["" : 20, "other": 1]>'
    return ir.from_onnx_text(f"{head} g (float[N, 4] x, float[N, 4] z) => (float[N, 4] y) {{ {body} }}")


def tensors(body: str) -> list[str]:
    return [gate.tensor for gate in gates_of(graph(body))]


def test_a_sigmoid_that_is_multiplied_with_something_else_is_a_gate() -> None:
    assert tensors("h = Relu(x)  s = Sigmoid(h)  y = Mul(x, s)") == ["h"]


@pytest.mark.parametrize("product", ["Mul(h, s)", "Mul(s, h)"])
@pytest.mark.parametrize("squash", ["Sigmoid", "HardSigmoid"])
def test_silu_is_no_gate_in_either_order(squash: str, product: str) -> None:
    assert tensors(f"h = Relu(x)  s = {squash}(h)  y = {product}") == []


def test_a_sigmoid_that_is_added_to_its_input_is_a_gate() -> None:
    assert tensors("h = Relu(x)  s = Sigmoid(h)  y = Add(h, s)") == ["h"]


def test_a_hard_sigmoid_is_a_gate_whatever_its_slope() -> None:
    assert tensors("h = Relu(x)  s = HardSigmoid <alpha = 0.1666, beta = 0.5> (h)  y = Mul(x, s)") == ["h"]


def test_a_sigmoid_at_the_output_is_a_gate() -> None:
    assert tensors("h = Relu(x)  y = Sigmoid(h)") == ["h"]


def test_the_input_of_the_graph_may_be_what_is_squashed() -> None:
    assert tensors("s = Sigmoid(x)  y = Mul(z, s)") == ["x"]


def test_gates_stand_in_the_order_of_computation() -> None:
    body = "a = Relu(x)  s = Sigmoid(a)  b = Mul(x, s)  t = HardSigmoid(b)  c = Mul(z, t)  y = Sigmoid(c)"
    assert tensors(body) == ["a", "b", "c"]


def test_one_tensor_that_is_squashed_twice_is_two_gates() -> None:
    assert tensors("h = Relu(x)  s = Sigmoid(h)  t = Sigmoid(h)  a = Mul(x, s)  y = Mul(a, t)") == ["h", "h"]


@pytest.mark.parametrize("other", ["Tanh", "Softplus", "Softmax", "Relu", "HardSwish", "other.Sigmoid"])
def test_nothing_else_is_a_gate(other: str) -> None:
    assert tensors(f"h = Relu(x)  s = {other}(h)  y = Mul(x, s)") == []


def test_a_gate_knows_its_module_and_has_an_empty_path_where_it_does_not() -> None:
    model = graph("h = Relu(x)  s = Sigmoid(h)  a = Mul(x, s)  t = Sigmoid(a)  y = Mul(x, t)")
    next(node for node in model.graph if node.op_type == "Sigmoid").metadata_props[MODULE_KEY] = "layer1.gate"
    assert gates_of(model) == (Gate("layer1.gate", "h"), Gate("", "a"))


@pytest.mark.parametrize(("name", "count"), [("toy", 1), ("se_resnet8", 3), ("cbam_resnet8", 6)])
def test_every_gate_of_a_network_is_found(captured: Callable[[str], Graph], name: str, count: int) -> None:
    before = gates_of(captured(name).model)
    after = gates_of(clean_graph(captured(name))[0].model)
    assert len(before) == len(after) == count
    assert [gate.module_path for gate in before] == [gate.module_path for gate in after]


def test_cbam_has_a_channel_gate_before_every_spatial_gate(captured: Callable[[str], Graph]) -> None:
    paths = [gate.module_path for gate in gates_of(clean_graph(captured("cbam_resnet8"))[0].model)]
    assert paths == [
        f"layer{i}.0.attention.{gate}.sigmoid" for i in (1, 2, 3) for gate in ("ChannelGate", "SpatialGate")
    ]


def test_a_network_without_attention_has_no_gates(captured: Callable[[str], Graph]) -> None:
    assert gates_of(clean_graph(captured("resnet8"))[0].model) == ()
