"""Files of other programs: what the specification and ONNX Runtime take is taken, and computes the same."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attn_export.exporter.artifacts import Target
from attn_export.exporter.cleanup.inspect import inspect_file
from attn_export.exporter.errors import UnreadableGraphError
from attn_export.exporter.graph.facts import dims
from attn_export.exporter.graph.read import read
from attn_export.exporter.workflows.clean import clean_file
from tests.cleanup.spellings import SE_NODES_OF, difference, noise, parsed, run, se_weights

MAP = "float[N, 16, H, W]"
SE = SE_NODES_OF.format(source="x")
NORM = {name: noise(16, seed=seed) for seed, name in enumerate(("scale", "shift", "mean"))}
NORM["variance"] = noise(16, seed=9) ** 2 + 0.5
CONV = "c = Conv<pads = [1, 1, 1, 1]>(x, w)"
NORMED = f"{CONV}  n = BatchNormalization(c, scale, shift, mean, variance)"
Saved = Callable[..., Path]


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    """``saved(nodes, name=array, ...)`` is a file of a graph from x to y, changed by ``edit`` before it is written."""

    def save(
        nodes: str,
        *,
        outputs: str = f"{MAP} y",
        header: str = 'opset_import: ["" : 17]',
        edit: Callable[[onnx.ModelProto], object] = bool,
        functions: str = "",
        **weights: Any,
    ) -> Path:
        text = f"<ir_version: 10, {header}> g ({MAP} x) => ({outputs}) {{ {nodes} }} {functions}"
        model = parsed(text, **weights)
        edit(model)
        onnx.save(model, tmp_path / "a.onnx")
        return tmp_path / "a.onnx"

    return save


def cleaned(path: Path, target: Target = Target.ANY) -> Counter[str]:
    """The operators of the cleaned file, which computes the same at several sizes and keeps its outputs."""
    result = clean_file(path, path.with_name("b.onnx"), target=target, threads=1)
    assert result.cleaned.reverted == ()
    assert result.not_compared == ""
    for shape in ((1, 16, 8, 8), (5, 16, 7, 9)):
        before, after = run(path, x=noise(*shape)), run(result.path, x=noise(*shape))
        assert len(before) == len(after)
        assert max(difference(a, b) for a, b in zip(after, before, strict=True)) < 1e-5
    parent, child = onnx.load(path), onnx.load(result.path)
    assert [value.name for value in child.graph.output] == [value.name for value in parent.graph.output]
    return Counter(node.op_type for node in child.graph.node)


def kinds(path: Path) -> list[str]:
    return [block.kind for block in inspect_file(path)]


# Outputs.


@pytest.mark.parametrize("target", Target)
@pytest.mark.parametrize(
    "outputs",
    [f"{MAP} y, {MAP} y", f"{MAP} y, {MAP} x", f"{MAP} x, {MAP} y, {MAP} x", f"{MAP} y, float[N, 16, 1, 1] p, {MAP} y"],
    ids=["twice", "with the input", "the input twice", "an inner one between"],
)
def test_an_output_may_be_listed_twice_or_be_the_input(saved: Saved, outputs: str, target: Target) -> None:
    path = saved(SE, outputs=outputs, **se_weights())
    assert kinds(path) == ["SE"]
    cleaned(path, target)


def test_outputs_may_be_weights_and_equal_tensors(saved: Saved) -> None:
    outputs = f"{MAP} y, {MAP} z, float[16, 16, 3, 3] w"
    nodes = cleaned(saved(f"{CONV}  y = Relu(c)  z = Relu(c)", outputs=outputs, w=noise(16, 16, 3, 3)))
    assert nodes["Relu"] == 1


@pytest.mark.parametrize("missing", ["shape", "type"])
def test_an_output_needs_no_shape(saved: Saved, missing: str) -> None:
    """The specification allows that; ONNX's checker doesn't."""

    def forget(model: onnx.ModelProto) -> None:
        kind = model.graph.output[0].type
        kind.ClearField("tensor_type") if missing == "type" else kind.tensor_type.ClearField("shape")

    path = saved(SE, edit=forget, **se_weights())
    assert kinds(path) == ["SE"]
    assert dims(read(path).graph.outputs[0]) == ("N", 16, "H", "W")
    cleaned(path)


def test_a_graph_may_return_what_it_is_given(saved: Saved) -> None:
    path = saved("z = Relu(x)", outputs=f"{MAP} x, float[16, 1, 1] w", w=noise(16, 1, 1))
    assert cleaned(path) == {}


def test_an_input_without_a_shape_is_named(saved: Saved) -> None:
    path = saved(SE, edit=lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"), **se_weights())
    for work in (lambda: inspect_file(path), lambda: clean_file(path, path.with_name("b.onnx"))):
        with pytest.raises(UnreadableGraphError, match="the shape of its input x") as caught:
            work()
        assert "make_tensor_value_info" in caught.value.hint


def test_a_shape_that_cant_be_inferred_stays_unknown(saved: Saved) -> None:
    def forget(model: onnx.ModelProto) -> None:
        model.graph.output[0].type.tensor_type.ClearField("shape")

    path = saved("y = my.Magic(x)", header='opset_import: ["" : 17, "my" : 1]', edit=forget)
    assert read(path).graph.outputs[0].shape is None
    clean_file(path, path.with_name("b.onnx"), threads=1)


SEQUENCES = {
    "made": "q = SequenceConstruct(x, z)  e = SequenceErase(q, i)  y = SequenceAt(e, i)",
    "empty": "e = SequenceEmpty<dtype = 1>()  q = SequenceInsert(e, z)  y = SequenceAt(q, i)",
    "mapped": f"""q = SequenceConstruct(z, x)  m = SequenceMap(q) <body = b ({MAP} a) => ({MAP} b) {{ b = Relu(a) }}>
        y = SequenceAt(m, i)""",
    "in a loop": f"""q = SequenceConstruct(z)  m = Loop(n, on, q) <body = b (int64 k, bool c, seq({MAP}) s) =>
        (bool d, seq({MAP}) t) {{ d = Identity(c)  a = SequenceAt(s, i)
        t = SequenceInsert(s, a) }}>  y = SequenceAt(m, i)""",
    "optional": "o = Optional(z)  has = OptionalHasElement(o)  y = OptionalGetElement(o)",
    "optional sequence": "q = SequenceConstruct(z)  o = Optional(q)  e = OptionalGetElement(o)  y = SequenceAt(e, i)",
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences_and_optionals_keep_their_types(saved: Saved, name: str) -> None:
    nodes = f"{SE.replace('y =', 'z =')}  {SEQUENCES[name]}"
    cleaned(saved(nodes, **se_weights(), i=np.array(0), n=np.array(2), on=np.array(True)))


def test_strings_stay_strings(saved: Saved) -> None:
    """onnx-ir can't write the strings that it computed."""
    nodes = """l = Constant<value_strings = ["yes", "no"]>()  k = Concat<axis = 0>(l, l)  s = Identity(k)
        f = Flatten(x)  i = ArgMax<axis = 1, keepdims = 0>(f)  two = Mod(i, n)  y = Gather(s, two)"""
    path = saved(nodes, outputs="string[N] y, string[4] s", n=np.array(4))
    result = clean_file(path, path.with_name("b.onnx"), threads=1)
    for before, after in zip(run(path, x=noise(5, 16, 2, 2)), run(result.path, x=noise(5, 16, 2, 2)), strict=True):
        assert before.tolist() == after.tolist()


# Spellings of sizes, domains and weights.


@pytest.mark.parametrize("target", Target)
@pytest.mark.parametrize("stated", [-1, "?", "None", "-1"])
def test_a_placeholder_for_a_size_is_a_dynamic_axis(saved: Saved, target: Target, stated: int | str) -> None:
    """Axes of one placeholder needn't be equal."""

    def close(model: onnx.ModelProto) -> None:
        for value in (model.graph.input[0], model.graph.output[0]):
            for axis in (0, 2, 3):
                size = value.type.tensor_type.shape.dim[axis]
                setattr(size, "dim_value" if isinstance(stated, int) else "dim_param", stated)

    path = saved(SE, edit=close, **se_weights())
    assert dims(read(path).graph.inputs[0]) == (None, 16, None, None)
    cleaned(path, target)


BRANCHES = f"then_branch = a () => ({MAP} t) {{ t = Relu(n) }}, else_branch = b () => ({MAP} e) {{ e = Neg(n) }}"


@pytest.mark.parametrize("both", [False, True], ids=["imported so", "nodes as well"])
def test_the_default_domain_may_be_spelled_out(saved: Saved, both: bool) -> None:
    def spell_out(model: onnx.ModelProto) -> None:
        model.opset_import[0].domain = "ai.onnx"
        for node in model.graph.node if both else ():
            node.domain = "ai.onnx"

    path = saved(f"{NORMED}  y = If(k) <{BRANCHES}>", k=np.array(True), w=noise(16, 16, 3, 3), **NORM, edit=spell_out)
    assert cleaned(path) == {"Conv": 1, "Relu": 1}


BRANCHES = (
    f"then_branch = a () => ({MAP} t) {{{{ t = Relu(n) }}}}, else_branch = b () => ({MAP} e) {{{{ e = Neg(n) }}}}"
)
BRANCHES = BRANCHES.replace("{{", "{").replace("}}", "}")


@pytest.mark.parametrize("version", [3, 4, 8])
def test_weights_may_be_listed_as_inputs(saved: Saved, version: int) -> None:
    """Before IR version 4 they had to be, and are constants; since then a caller may override them."""

    def list_weights(model: onnx.ModelProto) -> None:
        model.ir_version = version
        infos = [onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in model.graph.initializer]
        model.graph.input.extend(infos)

    gate = SE.replace("GlobalAveragePool(x)", "GlobalAveragePool(n)").replace("Mul(x", "Mul(n")
    path = saved(f"{NORMED}  {gate}", w=noise(16, 16, 3, 3), **NORM, **se_weights(), edit=list_weights)
    (block,) = inspect_file(path)
    assert (block.kind, block.reduction) == ("SE", 4)
    result = clean_file(path, path.with_name("b.onnx"), threads=1)
    assert [block.kind for block in result.cleaned.blocks] == ["SE"]
    folded = cleaned(path)["BatchNormalization"] == 0
    assert folded is (version < 4)
    reasons = [skip.reason for skip in result.cleaned.skipped if skip.rule == "fold BatchNorm"]
    assert reasons == ([] if folded else ["the weights are graph inputs, which callers may override"])


# Types.


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float64])
def test_batch_norm_is_folded_in_every_type(saved: Saved, dtype: Any) -> None:
    weights = {name: array.astype(dtype) for name, array in {"w": noise(16, 16, 3, 3), **NORM}.items()}
    name = {ml_dtypes.bfloat16: "bfloat16", np.float16: "float16", np.float64: "double"}[dtype]

    def convert(model: onnx.ModelProto) -> None:
        for value in (model.graph.input[0], model.graph.output[0]):
            value.type.tensor_type.elem_type = onnx.TensorProto.DataType.Value(name.upper())

    path = saved(f"{NORMED}  y = Relu(n)", header='opset_import: ["" : 22]', edit=convert, **weights)
    result = clean_file(path, path.with_name("b.onnx"), threads=1)
    assert result.cleaned.reverted == ()
    graph = onnx.load(result.path).graph
    assert [node.op_type for node in graph.node] == ["Conv", "Relu"]
    assert {onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in graph.initializer} == {name.upper()}


# Operators in other modes and forms.


@pytest.mark.parametrize("opset", [12, 15])
def test_batch_norm_in_training_mode_is_left_alone(saved: Saved, opset: int) -> None:
    """It computes the statistics of what it reads. Before opset 14 more outputs than one say so."""
    outputs = ", mo, vo, sm, sv" if opset < 14 else ", mo, vo"
    mode = "" if opset < 14 else "<training_mode = 1>"
    nodes = f"{CONV}  n{outputs} = BatchNormalization{mode}(c, scale, shift, mean, variance)  y = Relu(n)"
    path = saved(nodes, header=f'opset_import: ["" : {opset}]', w=noise(16, 16, 3, 3), **NORM)
    assert cleaned(path)["BatchNormalization"] == 1


PADS = {
    "a crop": ("Pad(x, p)", [0, 0, -1, -1, 0, 0, -1, -1], 0),
    "zeros": ("Pad(x, p)", [0, 0, 1, 2, 0, 0, 2, 1], 1),
    "another value": ("Pad(x, p, one)", [0, 0, 1, 1, 0, 0, 1, 1], 0),
    "a reflection": ('Pad<mode = "reflect">(x, p)', [0, 0, 1, 1, 0, 0, 1, 1], 0),
    "channels too": ("Pad(x, p)", [0, 1, 1, 1, 0, -1, 1, 1], 0),
    "two axes": ("Pad(x, p, , axes)", [1, 1, 1, 1], 1),
}


@pytest.mark.parametrize(("pad", "amounts", "merged"), PADS.values(), ids=PADS.keys())
def test_a_pad_goes_into_a_convolution_only_if_it_adds_zeros_around(
    saved: Saved, pad: str, amounts: list[int], merged: int
) -> None:
    weights: dict[str, Any] = {"p": np.array(amounts), "w": noise(16, 16, 3, 3)}
    weights |= {"one": np.array(1, np.float32)} if "one" in pad else {}
    weights |= {"axes": np.array([2, 3])} if "axes" in pad else {}
    outputs, header = "float[N, 16, A, B] y", 'opset_import: ["" : 18]'
    nodes = cleaned(saved(f"d = {pad}  c = Conv(d, w)  y = Relu(c)", outputs=outputs, header=header, **weights))
    assert nodes["Pad"] == 1 - merged


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from([1, 2, -1]), st.integers(-6, 6), st.integers(-7, 9), st.sampled_from([1, 2, -1])),
        min_size=2,
        max_size=3,
    )
)
def test_slices_in_a_row_compute_the_same(saved: Saved, slices: list[tuple[int, int, int, int]]) -> None:
    """On one axis or several, from either end, with steps, mirrored, and empty ones too."""
    nodes, value = "", "x"
    weights: dict[str, Any] = {}
    for index, (axis, first, last, step) in enumerate(slices):
        names = [f"{name}{index}" for name in ("first", "last", "axis", "step")]
        weights |= {name: np.array([n]) for name, n in zip(names, (first, last, axis, step), strict=True)}
        nodes += f"s{index} = Slice({', '.join([value, *names])}) "
        value = f"s{index}"
    path = saved(f"{nodes} y = Neg({value})", outputs="float[N, A, B, C] y", **weights)
    result = clean_file(path, path.with_name("b.onnx"), threads=1)
    assert result.cleaned.reverted == ()
    for shape in ((1, 16, 12, 12), (5, 16, 9, 11)):
        (before,), (after,) = run(path, x=noise(*shape)), run(result.path, x=noise(*shape))
        assert np.array_equal(before, after)


# Branches and functions.


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ("u = If(k) <%s>  y = Neg(u)", f"{MAP} y"),
        ("y = If(k) <%s>  z = Neg(y)", f"{MAP} y, {MAP} z"),
        ("s = Exp(x)  y = If(k) <%s>  z = Neg(s)", f"{MAP} y, {MAP} s, {MAP} z"),
    ],
    ids=["inside", "an output", "beside an output of another name"],
)
@pytest.mark.parametrize("body", ["Sigmoid(x)", "Identity(x)", "Unsqueeze(x, zero)  t = Squeeze(u, zero)"])
@pytest.mark.parametrize("condition", [True, False])
def test_a_branch_whose_condition_is_constant_is_taken(
    saved: Saved, nodes: str, outputs: str, body: str, condition: bool
) -> None:
    zero = "" if "zero" not in body else "<int64[1] zero = {0}>"
    text = f"then_branch = a () => ({MAP} t) {zero} {{ {'u' if zero else 't'} = {body} }}, "
    text += f"else_branch = b () => ({MAP} e) {{ e = Relu(x) }}"
    assert cleaned(saved(nodes % text, outputs=outputs, k=np.array(condition)))["If"] == 0


FUNCTIONS = """<domain: "my", opset_import: ["" : 17]> Gate (m, a, b, c, d) => (r) {
    p = GlobalAveragePool(m)  h = Conv(p, a, b)  i = Relu(h)  l = Conv(i, c, d)  g = Sigmoid(l)  r = Mul(m, g) }
    <domain: "my", opset_import: ["" : 17, "my" : 1]> Twice (m, a, b, c, d) => (r) {
    half = Constant<value = float {0.5}>()
    q = my.Gate(m, a, b, c, d)  s = my.Gate(q, a, b, c, d)  r = Mul(s, half) }"""


@pytest.mark.parametrize(("call", "blocks"), [("Gate", 1), ("Twice", 2)])
def test_local_functions_are_inlined(saved: Saved, call: str, blocks: int) -> None:
    nodes = f"y = my.{call}(x, w1, b1, w2, b2)"
    path = saved(nodes, header='opset_import: ["" : 17, "my" : 1]', functions=FUNCTIONS, **se_weights())
    assert kinds(path) == ["SE"] * blocks
    assert cleaned(path)["Sigmoid"] == blocks


def test_a_function_may_have_attributes(saved: Saved) -> None:
    function = """<domain: "my", opset_import: ["" : 17]> Scale <factor> (m) => (r) {
        k = Constant<value_float: float = @factor>()  r = Mul(m, k) }"""
    nodes = "a = my.Scale<factor = 0.5>(x)  y = my.Scale<factor = -3.0>(a)"
    path = saved(nodes, header='opset_import: ["" : 17, "my" : 1]', functions=function)
    assert cleaned(path) == {"Mul": 2}


# Constants.


def test_a_constant_is_folded_only_by_what_computes_it_right(saved: Saved) -> None:
    """ONNX's reference implementation sums over other channels than LRN's definition says."""
    path = saved("l = LRN<size = 5, alpha = 0.5>(k)  y = Add(x, l)", k=noise(1, 16, 1, 1))
    assert cleaned(path)["LRN"] == 1


def test_folding_lets_a_file_grow_by_little(saved: Saved) -> None:
    nodes = "".join(f"t{i} = Tile(k, many)  a{i} = Mul({'x' if i == 0 else f'a{i - 1}'}, t{i}) " for i in range(4))
    nodes += "v = Tile(k, more)  b = ReduceMean(v)  y = Add(a3, b)"
    path = saved(nodes, k=noise(1, 16, 1, 1), many=np.array([1, 1, 1, 1]), more=np.array([64, 1, 64, 1]))
    assert cleaned(path)["Tile"] == 1, "of 65536 numbers"
    assert path.with_name("b.onnx").stat().st_size < path.stat().st_size + 4 * 8192


# Notes.


def test_notes_stay(saved: Saved) -> None:
    def entry(noted: Any) -> None:
        noted.doc_string = f"of {type(noted).__name__}"
        noted.metadata_props.add(key="k", value="v")

    def note(model: onnx.ModelProto) -> None:
        graph = model.graph
        for noted in (model, graph, graph.input[0], graph.output[0], graph.node[0], *graph.initializer):
            entry(noted)
        graph.input[0].type.denotation = "IMAGE"
        graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"

    path = saved(f"{CONV}  y = Relu(c)", w=noise(16, 16, 3, 3), edit=note)
    large = noise(16, 16, 3, 3).nbytes
    assert large > 1024, "mapped from the file"
    cleaned(path)
    model = onnx.load(path.with_name("b.onnx"))
    graph = model.graph
    for noted in (model, graph, graph.input[0], graph.output[0], graph.node[0], graph.initializer[0]):
        assert noted.doc_string == f"of {type(noted).__name__}"
        assert {"k": "v"}.items() <= {p.key: p.value for p in noted.metadata_props}.items()
    assert graph.input[0].type.denotation == "IMAGE"
    assert graph.input[0].type.tensor_type.shape.dim[0].denotation == "DATA_BATCH"


# Quantization.


def test_quantization_stays_in_the_graph(saved: Saved) -> None:
    """Equal pairs aren't merged, and quantized weights aren't folded."""
    nodes = """q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  e = QuantizeLinear(w, s, z)
        f = DequantizeLinear(e, s, z)  c = Conv<pads = [1, 1, 1, 1]>(d, f)  h = QuantizeLinear(c, s, z)
        y = DequantizeLinear(h, s, z)"""
    weights = {"w": noise(16, 16, 3, 3), "s": np.array(0.05, np.float32), "z": np.array(0, np.int8)}
    nodes_after = cleaned(saved(nodes, **weights))
    assert (nodes_after["QuantizeLinear"], nodes_after["DequantizeLinear"]) == (3, 3)


# Old opsets.


def test_opsets_before_11_are_read_and_not_cleaned(saved: Saved) -> None:
    path = saved(SE, header='opset_import: ["" : 9]', **se_weights())
    assert kinds(path) == ["SE"]
    with pytest.raises(UnreadableGraphError, match="opset 9"):
        clean_file(path, path.with_name("b.onnx"))


# Hard sigmoids in parts.

HARD = {
    "Clip": "a = Add(l, three)  c = Clip(a, zero, six)  g = Div(c, six)",
    "Relu and Min": "a = Add(l, three)  v = Relu(a)  c = Min(v, six)  g = Div(c, six)",
    "Min and Max": "a = Add(three, l)  v = Min(six, a)  c = Max(zero, v)  g = Mul(c, sixth)",
    "a rounded sixth": "a = Add(l, three)  c = Clip(a, zero, six)  g = Mul(c, rounded)",
    "a sixth first": "m = Mul(l, sixth)  a = Add(m, half)  v = Max(a, zero)  g = Min(v, one)",
}
CONSTANTS = {"three": 3, "zero": 0, "six": 6, "sixth": 1 / 6, "rounded": 0.1667, "half": 0.5, "one": 1}


@pytest.mark.parametrize(("name", "nodes"), HARD.items(), ids=HARD.keys())
def test_every_spelling_of_a_hard_sigmoid_is_a_gate(saved: Saved, name: str, nodes: str) -> None:
    used = {key: np.array(number, np.float32) for key, number in CONSTANTS.items() if key in nodes}
    path = saved(SE.replace("g = Sigmoid(l)", nodes), **se_weights(), **used)
    assert kinds(path) == ["SE"]
    assert cleaned(path)["HardSigmoid"] == (name != "a rounded sixth")


def test_a_ramp_that_has_one_end_only_is_no_gate(saved: Saved) -> None:
    nodes = SE.replace("g = Sigmoid(l)", "a = Add(l, three)  g = Relu(a)")
    assert kinds(saved(nodes, three=np.array(3, np.float32), **se_weights())) == []


def test_weights_computed_from_weights_are_folded_unless_both_are_needed(saved: Saved) -> None:
    """As torch's dynamo exporter writes the weight standardization of NFNets."""
    nodes = """f = Reshape(w, flat)  m = ReduceMean<axes = [0, 2]>(f)  d = Sub(f, m)  p = Mul(d, d)
        v = ReduceMean<axes = [0, 2]>(p)  mean = Squeeze(m)  var = Squeeze(v)
        n = BatchNormalization(f, scale, shift, mean, var)  k = Reshape(n, shape)
        y = Conv<pads = [3, 3, 2, 2]>(x, k)"""
    weights = {"w": noise(16, 16, 6, 6), "flat": np.array([1, 16, -1]), "shape": np.array([16, 16, 6, 6])}
    norm = {name: NORM[name] for name in ("scale", "shift")}
    assert cleaned(saved(nodes, **weights, **norm)) == {"Conv": 1}
    both = saved(f"{nodes}  z = Conv<pads = [3, 3, 2, 2]>(x, w)", outputs=f"{MAP} y, {MAP} z", **weights, **norm)
    assert cleaned(both)["BatchNormalization"] == 1
