"""Files as they come: wherever their weights stand, whatever else is in them, however old they are."""

import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from attn_export.exporter.artifacts import Target
from attn_export.exporter.cleanup.inspect import inspect_file
from attn_export.exporter.errors import UnreadableGraphError
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.workflows.clean import clean_file
from tests.cleanup.spellings import (
    SE_NODES_OF,
    SPELLINGS,
    Network,
    Way,
    difference,
    example,
    export,
    noise,
    parsed,
    run,
    se_weights,
)

HEADER = '<ir_version: 8, opset_import: ["" : 17]>'
MAP = "float[N, 16, 12, 12]"
SE_TEXT = f"{HEADER} g ({MAP} x) => ({MAP} y) {{ {SE_NODES_OF.format(source='x')} }}"
# A convolution with BatchNorm, which is folded into it, and what else is said in the test.
NORMED = "c = Conv<pads = [1, 1, 1, 1]>(x, w)  n = BatchNormalization(c, scale, shift, mean, variance)"
Written = Callable[..., Path]


def norm_weights(channels: int = 16) -> dict[str, np.ndarray[Any, Any]]:
    vectors = {name: noise(channels, seed=i) for i, name in enumerate(("scale", "shift", "mean"))}
    return {"w": noise(channels, 16, 3, 3), **vectors, "variance": noise(channels, seed=9) ** 2 + 0.5}


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """``written(text, name=array, ...)`` is a file of that model."""

    def write(text: str, **weights: Any) -> Path:
        onnx.save(parsed(text, **weights), tmp_path / "model.onnx")
        return tmp_path / "model.onnx"

    return write


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with an SE and a CBAM block, weights inside."""
    network = Network(SPELLINGS[1], SPELLINGS[21])
    return export(network, tmp_path_factory.mktemp("files") / "model.onnx", Way("legacy", 17))


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path, load_external_data=False).graph.node)


def cleaned_alike(source: Path, out: Path, tolerance: float = 1e-5, **feeds: np.ndarray[Any, Any]) -> Path:
    """The file cleaned; it answers what its parent answers, and is left alone by a second cleanup."""
    expected = run(source, **feeds)
    result = clean_file(source, out, threads=1)
    assert result.cleaned.reverted == ()
    assert result.not_compared == ""
    got = run(out, **feeds)
    assert [array.dtype for array in got] == [array.dtype for array in expected]
    assert max(difference(a, b) for a, b in zip(got, expected, strict=True)) < tolerance
    again = clean_file(out, out.with_suffix(".again.onnx"), threads=1)
    assert again.path.read_bytes() == out.read_bytes()
    return out


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Weights in other files.


@pytest.mark.parametrize("one_file", [True, False], ids=["one file", "a file for each"])
def test_weights_outside_are_read_and_end_up_inside(exported: Path, tmp_path: Path, one_file: bool) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    options: dict[str, Any] = {"location": "weights.bin"} if one_file else {}
    model = onnx.load(exported)
    onnx.save(
        model,
        folder / "model.onnx",
        save_as_external_data=True,
        all_tensors_to_one_file=one_file,
        size_threshold=0,
        **options,
    )
    before = bytes_of(folder)
    assert len(before) > 1
    cleaned_alike(folder / "model.onnx", out / "clean.onnx", input=example())
    assert bytes_of(folder) == before
    assert {path.name for path in out.iterdir()} == {"clean.onnx", "clean.again.onnx"}
    assert (out / "clean.onnx").read_bytes() == clean_file(exported, tmp_path / "b.onnx").path.read_bytes()


def test_weights_may_stand_in_a_folder_below(exported: Path, tmp_path: Path) -> None:
    model = onnx.load(exported)
    (tmp_path / "in" / "data").mkdir(parents=True)
    onnx.save(model, tmp_path / "in" / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "in" / "w.bin").rename(tmp_path / "in" / "data" / "w.bin")
    proto = onnx.load(tmp_path / "in" / "model.onnx", load_external_data=False)
    for tensor in proto.graph.initializer:
        next(entry for entry in tensor.external_data if entry.key == "location").value = "data/w.bin"
    (tmp_path / "in" / "model.onnx").write_bytes(proto.SerializeToString())
    cleaned_alike(tmp_path / "in" / "model.onnx", tmp_path / "clean.onnx", input=example())


def test_a_path_without_a_folder_will_do(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(onnx.load(exported), "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    clean_file("model.onnx", "clean.onnx", threads=1)
    assert difference(run(tmp_path / "clean.onnx", input=example())[0], run(exported, input=example())[0]) < 1e-5


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the weights were more than fit into one file."""
    monkeypatch.setattr(onnx_file, "save", partial(onnx_file.save, largest_inside=0))


def test_too_many_weights_are_written_beside_the_file(exported: Path, tmp_path: Path, outside: None) -> None:
    result = clean_file(exported, tmp_path / "clean.onnx", threads=1)
    assert {path.name for path in tmp_path.iterdir()} == {"clean.onnx", "clean.onnx.data"}
    assert difference(run(result.path, input=example())[0], run(exported, input=example())[0]) < 1e-5
    assert inspect_file(result.path) == result.cleaned.blocks


def test_too_many_weights_are_written_the_same_way_again(exported: Path, tmp_path: Path, outside: None) -> None:
    clean_file(exported, tmp_path / "clean.onnx", threads=1)
    before = bytes_of(tmp_path)
    clean_file(tmp_path / "clean.onnx", tmp_path / "clean.onnx", threads=1)
    assert bytes_of(tmp_path) == before


def test_the_weights_of_a_file_that_is_replaced_go_with_it(exported: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_file, "save", partial(onnx_file.save, largest_inside=0))
        clean_file(exported, tmp_path / "clean.onnx", threads=1)
    clean_file(tmp_path / "clean.onnx", tmp_path / "clean.onnx", threads=1)
    assert {path.name for path in tmp_path.iterdir()} == {"clean.onnx"}
    assert difference(run(tmp_path / "clean.onnx", input=example())[0], run(exported, input=example())[0]) < 1e-5


def test_the_weights_that_the_source_needs_are_kept(exported: Path, tmp_path: Path) -> None:
    """``cp model.onnx raw.onnx; attn-export clean raw.onnx -o model.onnx``: both read model.onnx.data."""
    model = onnx.load(exported)
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    shutil.copy(tmp_path / "model.onnx", tmp_path / "raw.onnx")
    expected = run(exported, input=example())[0]
    clean_file(tmp_path / "raw.onnx", tmp_path / "model.onnx", threads=1)
    assert difference(run(tmp_path / "model.onnx", input=example())[0], expected) < 1e-5
    assert np.array_equal(run(tmp_path / "raw.onnx", input=example())[0], expected)


def test_a_file_that_only_happens_to_have_the_name_is_kept(exported: Path, tmp_path: Path) -> None:
    """There is no older out.onnx whose weights it could hold."""
    (tmp_path / "out.onnx.data").write_bytes(b"a data set")
    clean_file(exported, tmp_path / "out.onnx", threads=1)
    assert (tmp_path / "out.onnx.data").exists()


# Where weights stand inside of a file.


@pytest.mark.parametrize("shift", range(5))
def test_weights_at_any_byte_of_the_file_are_read(written: Written, tmp_path: Path, shift: int) -> None:
    model = parsed(SE_TEXT, **se_weights())
    # 4096 bytes: above what is left in the parsed message.
    model.graph.initializer.append(onnx.numpy_helper.from_array(noise(16, 16, 2, 2), "big"))
    model.graph.node.insert(0, onnx.helper.make_node("Conv", ["x", "big"], ["c"], pads=[0, 0, 1, 1]))
    model.graph.node[1].input[0], model.graph.node[-1].input[0] = "c", "c"
    model.producer_name = "p" * (shift + 1)
    path = written(SE_TEXT)
    path.write_bytes(model.SerializeToString())
    cleaned_alike(path, tmp_path / "clean.onnx", x=noise(2, 16, 12, 12))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32, np.uint8, np.bool_, np.float16])
@pytest.mark.parametrize("count", [1, 3000])
def test_weights_in_typed_fields_are_read(tmp_path: Path, dtype: Any, count: int) -> None:
    """float_data, int64_data and so on, as onnx.helper.make_tensor writes them, small and large."""
    array = (np.abs(noise(count)) * 20).astype(dtype)
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Cast", ["w"], ["f"], to=1), onnx.helper.make_node("Add", ["x", "f"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [count])],
        [onnx.helper.make_tensor_value_info("y", 1, [count])],
        [onnx.helper.make_tensor("w", kind, array.shape, array)],
    )
    assert not graph.initializer[0].raw_data
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), tmp_path / "a.onnx")
    cleaned_alike(tmp_path / "a.onnx", tmp_path / "b.onnx", x=noise(count))


def test_typed_fields_and_raw_bytes_give_one_result(exported: Path, tmp_path: Path) -> None:
    model = onnx.load(exported)
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        typed = onnx.helper.make_tensor(tensor.name, tensor.data_type, array.shape, array.reshape(-1).tolist())
        tensor.CopyFrom(typed)
    onnx.save(model, tmp_path / "typed.onnx")
    assert (
        clean_file(tmp_path / "typed.onnx", tmp_path / "a.onnx", threads=1).path.read_bytes()
        == clean_file(exported, tmp_path / "b.onnx", threads=1).path.read_bytes()
    )


def test_a_weight_that_is_a_large_constant_node_is_read(written: Written, tmp_path: Path) -> None:
    model = parsed(f"{HEADER} g ({MAP} x) => ({MAP} y) {{ {NORMED} y = Relu(n) }}", **norm_weights())
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    del model.graph.initializer[:]
    nodes = [onnx.helper.make_node("Constant", [], [name], value=tensor) for name, tensor in weights.items()]
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    path = written(SE_TEXT)
    onnx.save(model, path)
    assert operators(cleaned_alike(path, tmp_path / "clean.onnx", x=noise(2, 16, 12, 12))) == {"Conv": 1, "Relu": 1}


def test_a_file_of_two_messages_is_one_graph(exported: Path, tmp_path: Path) -> None:
    """Protobuf joins messages that stand one after the other; the taps of the proof are added in this way."""
    inside = next(node.output[0] for node in onnx.load(exported).graph.node if node.op_type == "Sigmoid")
    tap = onnx.helper.make_tensor_value_info(inside, 1, ["n", "c"])
    further = onnx.ModelProto(graph=onnx.GraphProto(output=[tap]))
    (tmp_path / "a.onnx").write_bytes(exported.read_bytes() + further.SerializeToString())
    result = clean_file(tmp_path / "a.onnx", tmp_path / "b.onnx", threads=1)
    assert [output.name for output in onnx.load(result.path).graph.output] == ["output", inside]
    for before, after in zip(*(run(p, input=example()) for p in (tmp_path / "a.onnx", result.path)), strict=True):
        assert difference(after, before) < 1e-5


# Types.


@pytest.mark.parametrize("target", Target)
@pytest.mark.parametrize("spelling", [SPELLINGS[0], SPELLINGS[6], SPELLINGS[13], SPELLINGS[21]], ids=str)
def test_a_half_precision_graph_stays_one(tmp_path: Path, spelling: Any, target: Target) -> None:
    images = example().astype(np.float16)
    network = Network(spelling).half()
    export(network, tmp_path / "a.onnx", Way("legacy", 17), images)
    (expected,) = run(tmp_path / "a.onnx", input=images)
    result = clean_file(tmp_path / "a.onnx", tmp_path / "b.onnx", target=target, threads=1)
    assert result.cleaned.reverted == ()
    (got,) = run(result.path, input=images)
    assert got.dtype == np.float16
    assert difference(got, expected) < 1e-2
    proto = onnx.load(result.path)
    assert {t.data_type for t in proto.graph.initializer if t.data_type in (1, 10, 11) and t.dims} == {10} or (
        target is Target.ONNXRUNTIME  # Resize wants its scales in float32
    )
    if target is Target.ANY:
        assert result.nodes_after <= 2 + 2 + spelling.most + 3
    assert clean_file(result.path, tmp_path / "c.onnx", target=target).path.read_bytes() == result.path.read_bytes()


def test_a_double_precision_graph_stays_one(tmp_path: Path) -> None:
    """ONNX Runtime has no convolution of doubles: what is left is that every rewrite was proven."""
    images = example().astype(np.float64)
    export(Network(SPELLINGS[21]).double(), tmp_path / "a.onnx", Way("legacy", 17), images)
    result = clean_file(tmp_path / "a.onnx", tmp_path / "b.onnx", threads=1)
    assert "ONNX Runtime" in result.not_compared
    assert result.nodes_after == 2 + 2 + SPELLINGS[21].most + 3
    weights = [tensor for tensor in onnx.load(result.path).graph.initializer if tensor.data_type != 7]
    assert {tensor.data_type for tensor in weights} == {11}


# What else graphs hold.

BRANCHES = """<
    then_branch = t () => (float[N, 16, 12, 12] a) {{ {then} }},
    else_branch = e () => (float[N, 16, 12, 12] b) {{ {other} }}
>"""


def with_if(nodes: str, then: str, other: str, after: str = "y = Identity(i)", *, before_if: str = "") -> str:
    branches = BRANCHES.format(then=then, other=other)
    return f"{HEADER} g (bool cond, {MAP} x) => ({MAP} y) {{ {nodes} {before_if} i = If(cond) {branches} {after} }}"


IFS = {
    "a folded BatchNorm's result": with_if(NORMED, "a = Relu(n)", "b = Neg(n)"),
    "what BatchNorm is folded from": with_if(NORMED, "a = Relu(c)", "b = Neg(n)"),
    "the gated map and its gate": with_if(
        SE_NODES_OF.format(source="x").replace("y =", "m ="), "a = Mul(m, g)", "b = Add(m, l)"
    ),
    "a gate inside": with_if(
        "",
        "q = GlobalAveragePool(x)  s = Sigmoid(q)  a = Mul(x, s)",
        SE_NODES_OF.format(source="x").replace("y =", "b ="),
    ),
    "a weight that is folded": with_if(NORMED, "t = Conv<pads = [1, 1, 1, 1]>(x, w)  a = Add(t, n)", "b = Identity(n)"),
    "a constant": with_if(NORMED, "k = Constant<value = float[1] {2.0}>()  a = Mul(n, k)", "b = Identity(x)"),
}


@pytest.mark.parametrize("cond", [True, False])
@pytest.mark.parametrize("text", IFS.values(), ids=IFS.keys())
def test_branches_that_read_what_is_rewritten_stay_right(
    written: Written, tmp_path: Path, text: str, cond: bool
) -> None:
    weights = {**norm_weights(), **se_weights()}
    used = {name: array for name, array in weights.items() if f"{name}," in text or f"{name})" in text}
    cleaned_alike(written(text, **used), tmp_path / "clean.onnx", cond=np.array(cond), x=noise(2, 16, 12, 12))


@pytest.mark.parametrize("target", Target)
def test_a_loop_that_reads_what_is_rewritten_stays_right(written: Written, tmp_path: Path, target: Target) -> None:
    body = """<body = b (int64 i, bool c0, float[N, 16, 12, 12] s0) => (bool c1, float[N, 16, 12, 12] s1) {
        c1 = Identity(c0)  d = Mul(s0, g)  s1 = Add(d, n) }>"""
    nodes = f"{NORMED} {SE_NODES_OF.format(source='n').replace('Mul(x', 'Mul(n').replace('y =', 'm =')}"
    text = f"{HEADER} g (int64 trips, bool go, {MAP} x) => ({MAP} y) {{ {nodes} y = Loop(trips, go, m) {body} }}"
    path = written(text, **norm_weights(), **se_weights())
    feeds = {"trips": np.array(3), "go": np.array(True), "x": noise(2, 16, 12, 12)}
    (expected,) = run(path, **feeds)
    result = clean_file(path, tmp_path / "clean.onnx", target=target, threads=1)
    assert difference(run(result.path, **feeds)[0], expected) < 1e-5
    assert [block.kind for block in result.cleaned.blocks] == ["SE"]


def test_names_inside_of_a_body_are_not_given_a_second_time(written: Written, tmp_path: Path) -> None:
    """A body may not hide a name of the outer graph; the cleanup would call its new weights w.bias and the like."""
    then = 'k = Constant<value = float[1] {2.0}>()  "w.bias" = Mul(n, k)  "n/Conv" = Relu("w.bias")  a = Neg("n/Conv")'
    path = written(with_if(NORMED, then, "b = Identity(x)"), **norm_weights())
    cleaned_alike(path, tmp_path / "clean.onnx", cond=np.array(True), x=noise(2, 16, 12, 12))


FUNCTION = """
<domain: "local", opset_import: ["" : 17]>
Gate (m, w1, b1, w2, b2) => (y) { p = GlobalAveragePool(m)  h = Conv(p, w1, b1)  r = Relu(h)  l = Conv(r, w2, b2)
    g = Sigmoid(l)  y = Mul(m, g) }
"""
NESTED = """
<domain: "local", opset_import: ["" : 17, "local" : 1]>
Twice (m, w1, b1, w2, b2) => (y) { t = local.Gate(m, w1, b1, w2, b2)  y = local.Gate(t, w1, b1, w2, b2) }
"""
SCALED = """
<domain: "local", opset_import: ["" : 17]>
Scaled <alpha: float = 0.5>(m) => (y) { y = LeakyRelu<alpha: float = @alpha>(m) }
"""
LOCAL = '<ir_version: 8, opset_import: ["" : 17, "local" : 1]>'


@pytest.mark.parametrize(
    ("nodes", "functions", "kinds"),
    [
        ("y = local.Gate(x, w1, b1, w2, b2)", FUNCTION, ["SE"]),
        ("y = local.Twice(x, w1, b1, w2, b2)", FUNCTION + NESTED, ["SE", "SE"]),
        ("n = local.Scaled(x)  y = local.Gate(n, w1, b1, w2, b2)", FUNCTION + SCALED, ["SE"]),
        ("n = local.Scaled<alpha = 0.25>(x)  y = local.Gate(n, w1, b1, w2, b2)", FUNCTION + SCALED, ["SE"]),
    ],
    ids=["one", "one inside of another", "a default", "an attribute"],
)
def test_functions_are_seen_into(
    written: Written, tmp_path: Path, nodes: str, functions: str, kinds: list[str]
) -> None:
    path = written(f"{LOCAL} g ({MAP} x) => ({MAP} y) {{ {nodes} }} {functions}", **se_weights())
    out = cleaned_alike(path, tmp_path / "clean.onnx", x=noise(2, 16, 12, 12))
    assert [block.kind for block in inspect_file(out)] == kinds
    assert not onnx.load(out).functions


CUSTOM = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1, "my.ops" : 3]>'


def test_operators_of_a_runtime_are_left_alone(written: Written, tmp_path: Path) -> None:
    nodes = f"a = com.microsoft.Gelu(x)  {SE_NODES_OF.format(source='a').replace('Mul(x', 'Mul(a')}"
    path = written(f"{CUSTOM} g ({MAP} x) => ({MAP} y) {{ {nodes} }}", **se_weights())
    out = cleaned_alike(path, tmp_path / "clean.onnx", x=noise(2, 16, 12, 12))
    assert operators(out)["Gelu"] == 1
    assert {o.domain for o in onnx.load(out).opset_import} == {"", "com.microsoft"}


@pytest.mark.parametrize("target", Target)
def test_operators_that_nobody_knows_are_left_alone(written: Written, tmp_path: Path, target: Target) -> None:
    """They carry well-known names; what they compute is their own affair."""
    nodes = f"""c = my.ops.Conv<order = 2>(x, w)  n = BatchNormalization(c, scale, shift, mean, variance)
        t = my.ops.GlobalAveragePool(n)  s = my.ops.Sigmoid(t)  m = Mul(n, s)
        {SE_NODES_OF.format(source="x").replace("y =", "q =")}  y = my.ops.Mul(m, q)"""
    path = written(f"{CUSTOM} g ({MAP} x) => ({MAP} y) {{ {nodes} }}", **norm_weights(), **se_weights())
    result = clean_file(path, tmp_path / "clean.onnx", target=target, threads=1)
    assert "ONNX Runtime doesn't take the file" in result.not_compared
    before, after = (
        {
            (node.op_type, tuple(node.output), len(node.input), tuple(a.i for a in node.attribute))
            for node in onnx.load(file).graph.node
            if node.domain == "my.ops"
        }
        for file in (path, result.path)
    )
    assert after == before
    assert operators(result.path)["BatchNormalization"] == 1
    assert {(o.domain, o.version) for o in onnx.load(result.path).opset_import} == {("", 17), ("my.ops", 3)}


# Old files.


@pytest.mark.parametrize("opset", [11, 12, 13])
@pytest.mark.parametrize("target", Target)
def test_a_block_in_an_old_file_is_cleaned(written: Written, tmp_path: Path, opset: int, target: Target) -> None:
    """Reductions, views and clips had attributes where they have inputs now; the file stays as old as it is."""
    if opset < 13:
        views = "u = Squeeze<axes = [2, 3]>(p)", "v = Unsqueeze<axes = [2, 3]>(g)"
    else:
        views = "u = Squeeze(p, where)", "v = Unsqueeze(g, where)"
    text = f"""<ir_version: 6, opset_import: ["" : {opset}]> g ({MAP} z) => ({MAP} y)
    {{ x = Relu(z)  p = ReduceMean<axes = [-1, 2]>(x)  {views[0]}  h = Gemm<transB = 1>(u, w1)  r = Clip(h, low)
       l = Gemm(r, w2)  g = Sigmoid(l)  {views[1]}  y = Mul(x, v) }}"""
    weights: dict[str, Any] = {"w1": noise(4, 16), "w2": noise(4, 16), "low": np.array(0, np.float32)}
    if opset >= 13:
        weights["where"] = np.array([2, 3])
    path, x = written(text, **weights), noise(2, 16, 12, 12)
    (expected,) = run(path, z=x)
    result = clean_file(path, tmp_path / "clean.onnx", target=target, threads=1)
    assert difference(run(result.path, z=x)[0], expected) < 1e-5
    assert [o.version for o in onnx.load(result.path).opset_import] == [opset]
    assert [(b.kind, b.reduction) for b in result.cleaned.blocks] == [("SE", 4)]
    assert result.nodes_after <= result.nodes_before


def test_a_file_of_opset_10_is_refused(written: Written, tmp_path: Path) -> None:
    path = written(f'<ir_version: 5, opset_import: ["" : 10]> g ({MAP} x) => ({MAP} y) {{ y = Relu(x) }}')
    with pytest.raises(UnreadableGraphError, match="opset 10") as caught:
        clean_file(path, tmp_path / "clean.onnx")
    assert caught.value.hint


def test_weights_that_are_inputs_stay_what_a_caller_may_override(written: Written, tmp_path: Path) -> None:
    weights = {**norm_weights(), **se_weights()}
    inputs = ", ".join(f"float[{', '.join(map(str, array.shape))}] {name}" for name, array in weights.items())
    nodes = f"{NORMED} {SE_NODES_OF.format(source='n').replace('Mul(x', 'Mul(n')}"
    header = '<ir_version: 8, opset_import: ["" : 11]>'
    path = written(f"{header} g ({MAP} x, {inputs}) => ({MAP} y) {{ {nodes} }}", **weights)
    x, other = noise(2, 16, 12, 12), {"scale": noise(16, seed=77), "w1": noise(4, 16, 1, 1, seed=78)}
    out = cleaned_alike(path, tmp_path / "clean.onnx", x=x)
    assert [i.name for i in onnx.load(out).graph.input] == [i.name for i in onnx.load(path).graph.input]
    assert difference(run(out, x=x, **other)[0], run(path, x=x, **other)[0]) < 1e-5


# What has nothing to do with the rules.


def test_the_order_of_the_nodes_doesnt_matter(exported: Path, tmp_path: Path) -> None:
    model = onnx.load(exported)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    result = clean_file(tmp_path / "a.onnx", tmp_path / "b.onnx", threads=1)
    assert difference(run(result.path, input=example())[0], run(exported, input=example())[0]) < 1e-5
    assert [b.kind for b in result.cleaned.blocks] == ["SE", "CBAM"]
    assert result.nodes_after == clean_file(exported, tmp_path / "c.onnx", threads=1).nodes_after


def test_what_people_wrote_into_the_file_stays(written: Written, tmp_path: Path) -> None:
    nodes = f"{NORMED} {SE_NODES_OF.format(source='n').replace('Mul(x', 'Mul(n').replace('y =', 'm =')} y = Relu(m)"
    model = parsed(f"{HEADER} g ({MAP} x) => ({MAP} y) {{ {nodes} }}", **norm_weights(), **se_weights())
    model.doc_string, model.domain, model.model_version = "trained on Käse", "org.example", 7
    model.producer_name, model.producer_version = "somebody", "1.2"
    model.graph.name, model.graph.doc_string = "the network", "of the graph"
    onnx.helper.set_model_props(model, {"license": "CC0", "classes": '["猫", "dog"]', "empty": ""})
    model.graph.input[0].doc_string, model.graph.output[0].doc_string = "an image", "a map"
    last = model.graph.node[-1]
    last.name, last.doc_string = "the last one", "of the node"
    path = written(SE_TEXT)
    onnx.save(model, path)
    after = onnx.load(cleaned_alike(path, tmp_path / "clean.onnx", x=noise(2, 16, 12, 12)))
    for name in ("doc_string", "domain", "model_version", "producer_name", "producer_version", "ir_version"):
        assert getattr(after, name) == getattr(model, name), name
    assert (after.graph.name, after.graph.doc_string) == ("the network", "of the graph")
    properties = [{p.key: p.value for p in proto.metadata_props} for proto in (model, after)]
    assert properties[0].items() <= properties[1].items()
    assert (after.graph.input[0], after.graph.output[0]) == (model.graph.input[0], model.graph.output[0])
    assert (after.graph.node[-1].name, after.graph.node[-1].doc_string) == ("the last one", "of the node")


def test_the_names_of_what_is_still_computed_stay(exported: Path, tmp_path: Path) -> None:
    """People look into graphs by the names of tensors: the gated maps, the logits, what is between the blocks."""
    before, after = (
        {name for node in onnx.load(path).graph.node for name in node.output}
        for path in (exported, clean_file(exported, tmp_path / "clean.onnx", threads=1).path)
    )
    between = {name for name in before if name.endswith(("/Mul_output_0", "Relu_output_0")) and "/act/" not in name}
    maps = {name for name in between if "/mlp/" not in name}
    assert len(maps) > 5
    assert maps | {"output"} <= after


@pytest.mark.parametrize("target", Target)
def test_the_result_may_take_the_place_of_the_source(exported: Path, tmp_path: Path, target: Target) -> None:
    elsewhere = clean_file(exported, tmp_path / "elsewhere.onnx", target=target, threads=1)
    path = tmp_path / "model.onnx"
    shutil.copy(exported, path)
    clean_file(path, path, target=target, threads=1)
    assert path.read_bytes() == elsewhere.path.read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {"elsewhere.onnx", "model.onnx"}


def test_the_folder_of_the_result_is_made(exported: Path, tmp_path: Path) -> None:
    assert clean_file(exported, tmp_path / "a" / "new" / "clean.onnx", threads=1).path.exists()
    assert {p.name for p in (tmp_path / "a" / "new").iterdir()} == {"clean.onnx"}


def test_a_weight_that_is_an_output_stays_one(written: Written, tmp_path: Path) -> None:
    weights = norm_weights()
    text = f"{HEADER} g ({MAP} x) => ({MAP} y, float[16] scale, {MAP} n) {{ {NORMED} y = Relu(n) }}"
    out = cleaned_alike(written(text, **weights), tmp_path / "clean.onnx", x=noise(2, 16, 12, 12))
    assert [output.name for output in onnx.load(out).graph.output] == ["y", "scale", "n"]


def test_an_input_that_is_returned_stays(written: Written, tmp_path: Path) -> None:
    text = f"{HEADER} g ({MAP} x) => ({MAP} y, {MAP} z) {{ y = Identity(x)  z = Dropout(x) }}"
    out = cleaned_alike(written(text), tmp_path / "clean.onnx", x=noise(2, 16, 12, 12))
    assert [output.name for output in onnx.load(out).graph.output] == ["y", "z"]


def test_an_unused_input_stays(written: Written, tmp_path: Path) -> None:
    out = cleaned_alike(
        written(f"{HEADER} g ({MAP} x, float[3] unused) => ({MAP} y) {{ y = Relu(x) }}"),
        tmp_path / "clean.onnx",
        x=noise(2, 16, 12, 12),
        unused=noise(3),
    )
    assert [i.name for i in onnx.load(out).graph.input] == ["x", "unused"]


def test_quantization_annotations_stay(written: Written, tmp_path: Path) -> None:
    model = parsed(f"{HEADER} g ({MAP} x) => ({MAP} y) {{ y = Relu(x) }}")
    model.graph.quantization_annotation.append(
        onnx.TensorAnnotation(
            tensor_name="y", quant_parameter_tensor_names=[onnx.StringStringEntryProto(key="SCALE_TENSOR", value="s")]
        )
    )
    path = written(SE_TEXT)
    onnx.save(model, path)
    result = clean_file(path, tmp_path / "clean.onnx", threads=1)
    assert onnx.load(result.path).graph.quantization_annotation == model.graph.quantization_annotation


# What is refused, because it would be lost.


def sparse() -> onnx.SparseTensorProto:
    values = onnx.helper.make_tensor("s", 1, [2], [1.0, 2.0])
    return onnx.helper.make_sparse_tensor(values, onnx.helper.make_tensor("", 7, [2], [0, 3]), [16])


def test_sparse_weights_are_refused(written: Written, tmp_path: Path) -> None:
    model = parsed(f"{HEADER} g ({MAP} x) => ({MAP} y) {{ y = Relu(x) }}")
    model.graph.sparse_initializer.append(sparse())
    path = written(SE_TEXT)
    onnx.save(model, path)
    with pytest.raises(UnreadableGraphError, match="sparse"):
        clean_file(path, tmp_path / "clean.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_sparse_weights_of_a_branch_are_refused(written: Written, tmp_path: Path) -> None:
    model = parsed(with_if("", "a = Relu(x)", "b = Identity(x)"))
    model.graph.node[0].attribute[0].g.sparse_initializer.append(sparse())
    path = written(SE_TEXT)
    onnx.save(model, path)
    with pytest.raises(UnreadableGraphError, match="sparse"):
        clean_file(path, tmp_path / "clean.onnx")


def test_training_information_is_refused(written: Written, tmp_path: Path) -> None:
    model = parsed(f"{HEADER} g ({MAP} x) => ({MAP} y) {{ y = Relu(x) }}")
    model.training_info.append(onnx.TrainingInfoProto())
    path = written(SE_TEXT)
    onnx.save(model, path)
    with pytest.raises(UnreadableGraphError, match="training"):
        clean_file(path, tmp_path / "clean.onnx")


def test_what_the_newer_exporter_writes_with_weights_outside_is_read(tmp_path: Path) -> None:
    """torch.onnx.export's own default: model.onnx and model.onnx.data."""
    import warnings
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO

    network = Network(SPELLINGS[8])
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (torch.from_numpy(example()),), str(tmp_path / "model.onnx"), dynamo=True, input_names=["input"]
        )
    assert (tmp_path / "model.onnx.data").exists()
    cleaned_alike(tmp_path / "model.onnx", tmp_path / "clean.onnx", input=example())
