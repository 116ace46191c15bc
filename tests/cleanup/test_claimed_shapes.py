"""What a file states of its inner shapes is a claim: a file that was made dynamic by editing still states old sizes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attn_export.exporter.artifacts import Target
from attn_export.exporter.cleanup.pipeline import clean
from attn_export.exporter.errors import CleanupError
from attn_export.exporter.graph.facts import dims
from attn_export.exporter.graph.read import read
from attn_export.exporter.graph.shapes import confirm_claims, infer_from_inputs
from attn_export.exporter.workflows import clean as cleaning
from attn_export.exporter.workflows.clean import clean_file
from tests.cleanup.spellings import SE_NODES_OF, difference, noise, parsed, run, se_weights

C, SIDE = 16, 12
SE = SE_NODES_OF.format(source="x")
ECA = """p = GlobalAveragePool(x)  s = Squeeze(p, last)  t = Transpose<perm = [0, 2, 1]>(s)
    k = Conv<pads = [1, 1]>(t, w)  b = Transpose<perm = [0, 2, 1]>(k)
    u = Unsqueeze(b, last)  g = Sigmoid(u)  y = Mul(x, g)"""
SPATIAL = """m = ReduceMax(x, channel)  a = ReduceMean(x, channel)  c = Concat<axis = 1>(m, a)
    l = Conv<pads = [3, 3, 3, 3]>(c, w7)  g = Sigmoid(l)  y = Mul(x, g)"""
CHANNEL = """a = ReduceMean(x, map)  m = ReduceMax(x, map)  a1 = Conv(a, w1, b1)  a2 = Relu(a1)  a3 = Conv(a2, w2, b2)
    m1 = Conv(m, w1, b1)  m2 = Relu(m1)  m3 = Conv(m2, w2, b2)  l = Add(a3, m3)  g = Sigmoid(l)  y = Mul(x, g)"""
BLOCKS: dict[str, tuple[str, dict[str, Any]]] = {
    "SE": (SE, se_weights()),
    "ECA": (ECA, {"w": noise(1, 1, 3), "last": np.array([3])}),
    "spatial": (SPATIAL, {"w7": noise(1, 2, 7, 7), "channel": np.array([1])}),
    "channel": (CHANNEL, {**se_weights(), "map": np.array([2, 3])}),
}


def opened(blocks: list[str], axes: dict[int, str], *, outputs_too: bool = True) -> onnx.ModelProto:
    """A network traced at 1 x 16 x 12 x 12, its inner shapes written down, some axes opened afterwards."""
    nodes, last = "", "x"
    weights: dict[str, Any] = {}
    for number, name in enumerate(blocks):
        text, constants = BLOCKS[name]
        part = onnx.parser.parse_graph(f"g (float[1] x) => (float[1] y) {{ {text} }}")
        for node in part.node:
            inputs = [last if i == "x" else f"{i}_{number}" for i in node.input]
            attributes = ", ".join(f"{a.name} = {onnx.helper.get_attribute_value(a)}" for a in node.attribute)
            stated = f"<{attributes}>" if attributes else ""
            nodes += f"{node.output[0]}_{number} = {node.op_type}{stated}({', '.join(inputs)}) "
        weights |= {f"{key}_{number}": array for key, array in constants.items()}
        last = f"y_{number}"
    size = f"float[1, {C}, {SIDE}, {SIDE}]"
    text = f'<ir_version: 8, opset_import: ["" : 18]> g ({size} x) => ({size} {last}) {{ {nodes} }}'
    model = onnx.shape_inference.infer_shapes(parsed(text, **weights))
    for value in (*model.graph.input, *(model.graph.output if outputs_too else ())):
        for axis, symbol in axes.items():
            value.type.tensor_type.shape.dim[axis].dim_param = symbol
    return model


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    blocks=st.lists(st.sampled_from(list(BLOCKS)), min_size=1, max_size=2),
    axes=st.sampled_from([{0: "N"}, {2: "H", 3: "W"}, {0: "N", 2: "H", 3: "W"}]),
    target=st.sampled_from(list(Target)),
    outputs_too=st.booleans(),
)
def test_a_graph_opened_afterwards_computes_the_same_at_all_sizes(
    tmp_path: Path, blocks: list[str], axes: dict[int, str], target: Target, outputs_too: bool
) -> None:
    onnx.save(opened(blocks, axes, outputs_too=outputs_too), tmp_path / "a.onnx")
    result = clean_file(tmp_path / "a.onnx", tmp_path / "b.onnx", target=target, threads=1)
    assert result.cleaned.reverted == ()
    for batch, height, width in ((1, SIDE, SIDE), (5, 7, 10)):
        images = noise(batch if 0 in axes else 1, C, *((height, width) if 2 in axes else (SIDE, SIDE)))
        before, after = (run(tmp_path / name, x=images)[0] for name in ("a.onnx", "b.onnx"))
        assert difference(after, before) < 1e-5


def shapes_of(model: onnx.ModelProto, path: Path) -> dict[str | None, Any]:
    onnx.save(model, path)
    graph = read(path)
    infer_from_inputs(graph)
    confirm_claims(graph)
    return {value.name: dims(value) for node in graph.graph for value in node.outputs}


def test_what_a_file_states_of_an_open_axis_is_dropped(tmp_path: Path) -> None:
    shapes = shapes_of(opened(["ECA"], {0: "N"}), tmp_path / "a.onnx")
    assert {shape[0] for shape in shapes.values()} == {"N"}
    shapes = shapes_of(opened(["spatial"], {0: "N", 2: "H", 3: "W"}), tmp_path / "a.onnx")
    assert all(not isinstance(size, int) for shape in shapes.values() for size in (shape[0], *shape[2:]))
    assert shapes["c_0"][1] == 2


def test_what_only_the_file_knows_stays_if_it_holds(tmp_path: Path) -> None:
    """ONNX doesn't know the -1 of an open batch; at every batch it is 16, and 12 x 12 is what the map has."""
    text = """<ir_version: 8, opset_import: ["" : 18]> g (float[N, 16, 12, 12] x) => (float[N, 16, 12, 12] y)
        <int64[2] s = {0, -1}, float[N, A] f, float[N, A] r> { f = Reshape(x, s)  r = Relu(f)  y = Relu(x) }"""
    model = onnx.parser.parse_model(text)
    for value in model.graph.value_info:
        if value.name in "fr":
            value.type.tensor_type.shape.dim[1].dim_value = 16 * 12 * 12
    assert shapes_of(model, tmp_path / "a.onnx")["r"] == ("N", 16 * 12 * 12)
    for value in model.graph.value_info:
        if value.name in "fr":
            value.type.tensor_type.shape.dim[1].dim_value = 99
    assert 99 not in shapes_of(model, tmp_path / "a.onnx")["r"]


@pytest.mark.parametrize(("batch", "kept"), [("N", (None,) * 4), ("1", (1, 16, 12, 12))])
def test_of_another_domains_operator_only_the_rank_is_believed(tmp_path: Path, batch: str, kept: Any) -> None:
    """Nothing can confirm its sizes, unless no axis is dynamic and nothing contradicts the file."""
    text = f"""<ir_version: 8, opset_import: ["" : 18, "my" : 1]> g (float[{batch}, 16, 12, 12] x)
        => (float[{batch}, 16, 12, 12] y) <float[1, 16, 12, 12] m> {{ m = my.Magic(x)  y = Relu(m) }}"""
    assert shapes_of(onnx.parser.parse_model(text), tmp_path / "a.onnx")["m"] == kept


def test_sizes_that_contradict_the_inputs_discredit_the_others(tmp_path: Path) -> None:
    """A fixed batch of 1 was edited to a fixed batch of 4."""
    text = """<ir_version: 8, opset_import: ["" : 18, "my" : 1]> g (float[4, 16, 12, 12] x) => (float[4, 16, 12, 12] y)
        <float[1, 16, 12, 12] r, float[1, 16, 12, 12] m> { r = Relu(x)  m = my.Magic(r)  y = Relu(m) }"""
    assert shapes_of(onnx.parser.parse_model(text), tmp_path / "a.onnx")["m"] == (None,) * 4


@pytest.mark.parametrize("axes", [{0: "N"}, {2: "H"}, {3: "W"}], ids=["batch", "height", "width"])
def test_a_size_written_into_the_result_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, axes: dict[int, str]
) -> None:
    """The final comparison runs at other sizes than those that files are traced with."""
    onnx.save(opened(["SE"], axes), tmp_path / "a.onnx")
    sizes = np.array([1, C, 64 if 2 in axes else SIDE, 64 if 3 in axes else SIDE])

    def clean_and_fix(model: ir.Model, *rest: Any) -> Any:
        done = clean(model, *rest)
        shape = ir.Value(
            name="fixed", const_value=ir.tensor(sizes, name="fixed"), type=ir.TensorType(ir.DataType.INT64)
        )
        model.graph.register_initializer(shape)
        for node in (n for n in model.graph if n.op_type == "Mul"):
            fixed = ir.node("Reshape", [node.inputs[0], shape], name="fix")
            fixed.outputs[0].name = "fixed_map"
            node.replace_input_with(0, fixed.outputs[0])
            model.graph.insert_before(node, fixed)
        return done

    monkeypatch.setattr(cleaning, "clean", clean_and_fix)
    with pytest.raises(CleanupError, match=r"doesn't compute|doesn't run"):
        clean_file(tmp_path / "a.onnx", tmp_path / "b.onnx", threads=1)
