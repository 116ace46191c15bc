"""Graphs that ask for more than any memory, or for ever: refused by name, and what networks have is read."""

import mmap
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from attn_export.exporter.cleanup.inspect import inspect_file
from attn_export.exporter.errors import InputError, UnreadableGraphError
from attn_export.exporter.graph import limits, session
from attn_export.exporter.graph.tensors import problem_of
from attn_export.exporter.system.bounds import PER_BYTE, WORKSPACE, bounded_memory
from attn_export.exporter.validation.source_graph import run_source
from attn_export.exporter.workflows.clean import clean_file
from tests.cleanup.spellings import parsed

HEADER = '<ir_version: 8, opset_import: ["" : 17]>'
OPSETS = [helper.make_opsetid("", 17)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


def refused(model: onnx.ModelProto, path: Path) -> str:
    """What the error says, the same for reading and for cleaning."""
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UnreadableGraphError) as caught:
        inspect_file(path)
    with pytest.raises(UnreadableGraphError) as again:
        clean_file(path, path.with_name("clean.onnx"), threads=1)
    assert caught.value.message == again.value.message
    assert not path.with_name("clean.onnx").exists()
    return caught.value.message


def model_of(nodes: list[Any], weights: list[Any], size: Any = 1) -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [size]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=8)


def one(name: str) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.ones(1, np.float32), name)


# What there is too much of.


@pytest.mark.parametrize(
    ("limit", "says"), [("MAX_NODES", "3 nodes"), ("MAX_WEIGHTS", "2 weights"), ("MAX_ENDS", "2 inputs and outputs")]
)
def test_more_than_networks_have_is_refused(limit: str, says: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"{HEADER} g (float[1] x) => (float[1] y) <float[1] a = {{1}}, float[1] b = {{2}}>"
    model = parsed(f"{text} {{ c = Relu(x)  d = Add(c, a)  y = Add(d, b) }}")
    path.write_bytes(model.SerializeToString())
    inspect_file(path)
    monkeypatch.setattr(limits, limit, 1)
    assert says in refused(model, path)
    assert "1 are the limit" in refused(model, path)


def test_weights_that_are_listed_as_inputs_too_are_no_inputs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_ENDS", 2)
    model = model_of(
        [helper.make_node("Add", ["x", "w"], ["y"])], [onnx.numpy_helper.from_array(np.ones(1, "f4"), "w")]
    )
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [1]))
    path.write_bytes(model.SerializeToString())
    inspect_file(path)


def chained_functions(count: int) -> onnx.ModelProto:
    """Each calls the one before."""
    opsets = [*OPSETS, helper.make_opsetid("l", 1)]
    calls = [helper.make_node("Relu", ["a"], ["b"])]
    calls += [helper.make_node(f"F{k}", ["a"], ["b"], domain="l") for k in range(count)]
    model = model_of([helper.make_node(f"F{count}", ["x"], ["y"], domain="l")], [])
    model.functions.extend(
        helper.make_function("l", f"F{k}", ["a"], ["b"], [call], opsets) for k, call in enumerate(calls)
    )
    model.opset_import.append(opsets[1])
    return model


def test_functions_in_functions_have_an_end(path: Path) -> None:
    path.write_bytes(chained_functions(50).SerializeToString())
    inspect_file(path)
    assert "through more than 100 others" in refused(chained_functions(2000), path)


def test_copies_of_a_function_have_an_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Naming them takes the square of their number."""
    model = chained_functions(3)
    for function in model.functions[1:]:
        called = function.node[0]
        called.output[0] = "m"
        function.node.append(helper.make_node(called.op_type, ["m"], ["b"], domain="l"))
    monkeypatch.setattr(limits, "MAX_COPIES", 7)
    assert "8 calls of one function" in refused(model, path)
    monkeypatch.setattr(limits, "MAX_COPIES", 8)
    inspect_file(path)


def test_bodies_in_bodies_are_looked_through_once(path: Path) -> None:
    """20 levels would be 2^20 visits."""
    body = "y = Relu(x)"
    for level in range(20):
        inner = body.replace("y =", f"r{level} =", 1)
        body = f"""y = If (c) <then_branch = t () => (float[1] r{level}) {{ {inner} }},
                                else_branch = e () => (float[1] q{level}) {{ q{level} = Neg(x) }}>"""
    path.write_bytes(parsed(f"{HEADER} g (float[1] x, bool c) => (float[1] y) {{ {body} }}").SerializeToString())
    clean_file(path, path.with_name("clean.onnx"), threads=1)


def test_a_constant_that_doubles_again_and_again_is_not_computed(path: Path) -> None:
    nodes = [helper.make_node("Concat", [f"d{k}", f"d{k}"], [f"d{k + 1}"], axis=0) for k in range(40)]
    nodes += [helper.make_node("ReduceSum", ["d40"], ["c"], keepdims=0), helper.make_node("Add", ["x", "c"], ["y"])]
    assert "in its Concat" in refused(model_of(nodes, [one("d0")]), path)


def test_a_long_list_is_not_followed_element_by_element(path: Path) -> None:
    """ONNX would take 140 bytes for each of its elements."""
    cast = [helper.make_node("Pad", ["d0", "n"], ["p"]), helper.make_node("Cast", ["p"], ["q"], to=TensorProto.INT64)]
    nodes = [*cast, helper.make_node("ReduceSum", ["q"], ["s"], keepdims=0)]
    nodes += [helper.make_node("Cast", ["s"], ["c"], to=1), helper.make_node("Add", ["x", "c"], ["y"])]
    pads = onnx.numpy_helper.from_array(np.array([0, 10**9]), "n")
    path.write_bytes(model_of(nodes, [one("d0"), pads]).SerializeToString())
    assert inspect_file(path) == ()


def loop(trips: int | None) -> onnx.ModelProto:
    text = f"""{HEADER} g (float[1] x) => (float[1] y) <int64 m = {{{trips or 0}}}, bool go = {{1}}> {{
        y = Loop ({"m" if trips is not None else ""}, go, x) <body = b (int64 i, bool on, float[1] a)
            => (bool still, float[1] r) {{ still = Identity(on)  r = Add(a, a) }}> }}"""
    return parsed(text)


def test_a_loop_is_repeated_as_often_as_networks_do(path: Path) -> None:
    path.write_bytes(loop(10).SerializeToString())
    inspect_file(path)
    assert "repeats its Loop" in refused(loop(10**18), path)


def test_a_loop_without_an_end_is_not_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "SECONDS", 0.2)
    path.write_bytes(loop(None).SerializeToString())
    runs = run_source(ir.load(path), path.parent, threads=1)
    assert isinstance(runs, str)
    assert "had not finished after" in runs


@pytest.mark.parametrize("sizes", [(2**40, 2**40), (2**62, 4), (1,) * 1000], ids=lambda s: str(s)[:20])
def test_an_input_that_no_memory_holds_is_not_made(sizes: tuple[int, ...], path: Path) -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], [])
    del model.graph.input[0].type.tensor_type.shape.dim[:], model.graph.output[0].type.tensor_type.shape.dim[:]
    for size in sizes:
        model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = size
    path.write_bytes(model.SerializeToString())
    with suppress(InputError):
        assert clean_file(path, path.with_name("clean.onnx"), threads=1).not_compared


def test_a_message_of_gigabytes_is_refused_before_it_is_copied(path: Path) -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], []).SerializeToString()
    length = 3 * 2**30
    field = b"\xfa\x7f" + bytes(
        [length & 127 | 128, length >> 7 & 127 | 128, length >> 14 & 127 | 128, length >> 21 & 127 | 128, length >> 28]
    )
    with path.open("wb") as stream:
        stream.write(model + field)
        stream.truncate(len(model) + len(field) + length)
    with pytest.raises(UnreadableGraphError, match="not an ONNX file"):
        inspect_file(path)


# Tensors that can't be.

DAMAGED = {
    "no type": TensorProto(data_type=0, dims=[4], raw_data=bytes(16)),
    "a type of nobody": TensorProto(data_type=999, dims=[4], raw_data=bytes(16)),
    "text as bytes": TensorProto(data_type=TensorProto.STRING, dims=[4], raw_data=bytes(16)),
    "negative": TensorProto(data_type=1, dims=[-4], raw_data=bytes(16)),
    "two negatives": TensorProto(data_type=1, dims=[-2, -2], raw_data=bytes(16)),
    "more than 64 bits": TensorProto(data_type=1, dims=[2**62, 4]),
    "nothing of an enormous thing": TensorProto(data_type=1, dims=[0, 2**62]),
    "65 dimensions": TensorProto(data_type=1, dims=[1] * 65, raw_data=bytes(4)),
    "too short": TensorProto(data_type=1, dims=[5], raw_data=bytes(16)),
    "too long": TensorProto(data_type=1, dims=[3], raw_data=bytes(16)),
    "too few entries": TensorProto(data_type=1, dims=[5], float_data=[1.0]),
    "entries of another type": TensorProto(data_type=7, dims=[1], float_data=[1.0]),
    "a segment": TensorProto(data_type=1, dims=[4], raw_data=bytes(16), segment=TensorProto.Segment(begin=0, end=9)),
}


@pytest.mark.parametrize("tensor", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_tensor_that_cannot_be_is_refused_wherever_it_is(tensor: onnx.TensorProto, path: Path) -> None:
    tensor.name = "w"
    add = helper.make_node("Add", ["x", "w"], ["y"])
    assert "its tensor w" in refused(model_of([add], [tensor]), path)
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    assert "its tensor w" in refused(model_of([constant, add], []), path)


@pytest.mark.parametrize("dtype", [t for t in ir.DataType if t.name not in ("UNDEFINED",)], ids=lambda t: t.name)
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "entries"])
def test_tensors_of_every_type_are_good(dtype: ir.DataType, raw: bool) -> None:
    if raw and dtype.name == "STRING":
        pytest.skip("text is never raw")
    values: Any = [b"1", b"1", b"0"] if dtype.name == "STRING" else [1, 1, 0]
    tensor = helper.make_tensor("t", int(dtype), [3], values)
    if raw:
        tensor = helper.make_tensor("t", int(dtype), [3], bytes(-(-3 * dtype.bitwidth // 8)), raw=True)
    assert problem_of(tensor, has_data=True) == ""


@pytest.mark.parametrize("location", ["w\0.bin", "w" * 10_000, "loop/w.bin"], ids=["NUL", "long", "loop"])
def test_places_of_weights_that_no_system_has_are_refused(location: str, path: Path) -> None:
    (path.parent / "loop").symlink_to("loop")
    tensor = TensorProto(name="w", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    message = refused(model_of([helper.make_node("Add", ["x", "w"], ["y"])], [tensor]), path)
    assert len(message) < 500


# Memory.

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps the limit")


@on_linux
def test_a_small_file_gets_little_memory() -> None:
    with bounded_memory(0), pytest.raises(MemoryError):
        np.empty(WORKSPACE // 8 + 2**17)
    with bounded_memory(2**20, parts=2), pytest.raises(MemoryError):
        np.empty((WORKSPACE + 2**20 * PER_BYTE) // 16 + 2**17)
    np.empty(WORKSPACE // 8 + 2**17)


@on_linux
def test_addresses_that_are_only_reserved_do_not_count() -> None:
    """CUDA reserves terabytes."""
    with bounded_memory(0), mmap.mmap(-1, 2**40, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ):
        pass


def cube(side: int) -> onnx.ModelProto:
    weight = onnx.numpy_helper.from_array(np.full(side, 0.1, np.float32), "a")
    outer = helper.make_node("Einsum", ["a", "a", "a"], ["c"], equation="i, j, k -> ijk")
    total = helper.make_node("ReduceSum", ["c"], ["s"], keepdims=0)
    return model_of([outer, total, helper.make_node("Add", ["x", "s"], ["y"])], [weight])


def test_a_cube_of_constants_is_refused(path: Path) -> None:
    assert "5.1e+08 elements in its Einsum" in refused(cube(800), path)


@on_linux
def test_a_small_graph_that_wants_much_memory_is_not_compared(path: Path) -> None:
    path.write_bytes(cube(640).SerializeToString())
    assert "ONNX Runtime can't run the file" in clean_file(path, path.with_name("clean.onnx"), threads=1).not_compared
