"""Whatever is wrong with a file: one clear error, nothing written, and an older result as it was."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from attn_export.exporter.cleanup.inspect import inspect_file
from attn_export.exporter.errors import AttnExportError, UnreadableGraphError
from attn_export.exporter.workflows.clean import clean_file
from tests.cleanup.spellings import SE_NODES_OF, SPELLINGS, Network, Way, export, noise, parsed, se_weights

HEADER = '<ir_version: 8, opset_import: ["" : 17]>'
MAP = "float[N, 16, 12, 12]"
SE_TEXT = f"{HEADER} g ({MAP} x) => ({MAP} y) {{ {SE_NODES_OF.format(source='x')} }}"
OLDER = b"an older result"
Refused = Callable[..., str]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An exported network with a CBAM block. Nothing stands behind the operator set in this file."""
    folder = tmp_path_factory.mktemp("whole")
    return export(Network(SPELLINGS[21]), folder / "model.onnx", Way("legacy", 17)).read_bytes()


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    """``refused(path)`` is what the error says; both functions refuse, and nothing is written or lost."""

    def look() -> dict[str, bytes | None]:
        return {str(p.relative_to(tmp_path)): p.read_bytes() if p.is_file() else None for p in tmp_path.rglob("*")}

    def refuse(path: Path) -> str:
        out = tmp_path / "results" / "clean.onnx"
        out.parent.mkdir(exist_ok=True)
        out.write_bytes(OLDER)
        before = look()
        with pytest.raises(UnreadableGraphError) as caught:
            clean_file(path, out, threads=1)
        with pytest.raises(UnreadableGraphError) as again:
            assert inspect_file(path) == ()
        assert caught.value.exit_code == 3
        assert caught.value.message == again.value.message
        assert "\n" not in caught.value.message
        assert look() == before
        return caught.value.message

    return refuse


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


# No ONNX file at all.


def test_a_missing_file_is_named(refused: Refused, tmp_path: Path) -> None:
    assert "nothing.onnx" in refused(tmp_path / "nothing.onnx")


def test_a_folder_is_refused(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "folder.onnx").mkdir()
    assert "irectory" in refused(tmp_path / "folder.onnx")


def test_an_empty_file_is_refused(refused: Refused, path: Path) -> None:
    path.write_bytes(b"")
    assert "is empty" in refused(path)


GARBAGE = {
    "text": b"# a text file\nwith several lines\n",
    "a git lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 335506\n",
    "html": b"<!DOCTYPE html><html><body>404</body></html>",
    "json": b'{"a": 1}',
    "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "zeros": bytes(5000),
    "ones": b"\xff" * 5000,
    "one byte": b"\x08",
    "noise": np.random.default_rng(0).bytes(20_000),
    "a long number": b"\x08" + b"\x80" * 40,
    "a length beyond everything": b"\x3a" + b"\xff" * 8 + b"\x7f" + b"graph",
    "a gzip": b"\x1f\x8b\x08\x00" + bytes(60),
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_refused(refused: Refused, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert "model.onnx" in refused(path)


def test_other_protobufs_are_refused(refused: Refused, path: Path, whole: bytes) -> None:
    model = onnx.load_from_string(whole)
    others: list[Any] = [
        onnx.numpy_helper.from_array(noise(50, 50), "w"),
        model.graph,
        model.graph.node[0],
        onnx.ModelProto(ir_version=8),
        onnx.ModelProto(ir_version=8, graph=onnx.GraphProto(name="empty")),
        onnx.TensorProto(),
    ]
    for other in others:
        path.write_bytes(other.SerializeToString())
        refused(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_is_refused(refused: Refused, path: Path, zipped: bool) -> None:
    torch.save({"w": torch.ones(300)}, path, _use_new_zipfile_serialization=zipped)
    assert "not an ONNX file" in refused(path)


# A part of one.


def test_a_truncated_file_is_refused_wherever_it_ends(refused: Refused, path: Path, whole: bytes) -> None:
    ends = {*range(1, 40), *range(len(whole) - 40, len(whole)), *range(40, len(whole), len(whole) // 60)}
    for end in sorted(ends):
        path.write_bytes(whole[:end])
        refused(path)


def test_a_truncated_file_of_our_own_is_refused_wherever_it_ends(
    refused: Refused, path: Path, tmp_path: Path, whole: bytes
) -> None:
    path.write_bytes(whole)
    ours = clean_file(path, tmp_path / "clean.onnx", threads=1).path.read_bytes()
    for end in sorted({*range(1, 20), *range(len(ours) - 20, len(ours)), *range(20, len(ours), len(ours) // 60)}):
        path.write_bytes(ours[:end])
        refused(path)


def test_bytes_that_were_changed_are_an_error_or_another_graph(path: Path, tmp_path: Path, whole: bytes) -> None:
    """Nobody can tell a wrong weight from a right one. What can be told has to be told as an error of ours."""
    random = np.random.default_rng(3)
    out = tmp_path / "results" / "clean.onnx"
    out.parent.mkdir()
    told: set[int] = set()
    # Weights stand behind the nodes; most changes should hit the structure.
    head = whole.index(onnx.load_from_string(whole).graph.initializer[0].SerializeToString())
    for trial in range(150):
        damaged = bytearray(whole)
        for place in random.integers(0, head if trial % 3 else len(whole), 1 + trial % 4):
            damaged[place] = int(random.integers(0, 256))
        path.write_bytes(bytes(damaged))
        out.write_bytes(OLDER)
        try:
            clean_file(path, out, threads=1)
        except AttnExportError as error:
            told.add(error.exit_code)
            assert out.read_bytes() == OLDER, trial
        assert [p.name for p in out.parent.iterdir()] == ["clean.onnx"]
    assert {3} <= told <= {3, 4}


# Weights that stand elsewhere.


def outside(path: Path, **entries: str) -> onnx.ModelProto:
    """A valid file whose large weights are in weights.bin, with these entries of the last of them changed."""
    weights = {**se_weights(), "w1": noise(400, 16, 1, 1), "b1": noise(400), "w2": noise(16, 400, 1, 1)}
    onnx.save(parsed(SE_TEXT, **weights), path, save_as_external_data=True, location="weights.bin", size_threshold=1024)
    model = onnx.load(path, load_external_data=False)
    stored = [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    assert len(stored) == 3
    for key, value in entries.items():
        found = [entry for entry in stored[-1].external_data if entry.key == key]
        if found:
            found[0].value = value
        else:
            stored[-1].external_data.append(onnx.StringStringEntryProto(key=key, value=value))
    path.write_bytes(model.SerializeToString())
    return model


def test_the_file_of_these_tests_is_good(path: Path, tmp_path: Path) -> None:
    outside(path)
    assert clean_file(path, tmp_path / "clean.onnx", threads=1).not_compared == ""


def test_missing_weights_are_named(refused: Refused, path: Path) -> None:
    outside(path)
    (path.parent / "weights.bin").unlink()
    assert "weights.bin" in refused(path)


@pytest.mark.parametrize("left", [0, 1, 5000])
def test_weights_that_are_too_short_are_named(refused: Refused, path: Path, left: int) -> None:
    outside(path)
    weights = path.parent / "weights.bin"
    weights.write_bytes(weights.read_bytes()[:left])
    assert "weights.bin" in refused(path)


@pytest.mark.parametrize(
    "entries",
    [
        {"location": "../secret.bin"},
        {"location": "a/../../secret.bin"},
        {"location": "{folder}/../secret.bin"},
        {"location": "/etc/passwd"},
        {"location": "link.bin"},
        {"location": ""},
        {"location": "."},
        {"location": "results"},
        {"offset": "-4"},
        {"offset": "many"},
        {"offset": "99999999999999999999"},
        {"length": "3"},
        {"length": "-1"},
        {"length": "999999999"},
    ],
    ids=lambda entries: "=".join(*entries.items()),
)
def test_places_of_weights_that_are_wrong_are_refused(
    refused: Refused, path: Path, tmp_path: Path, entries: dict[str, str]
) -> None:
    inner = tmp_path / "in"
    inner.mkdir()
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(100_000))
    (inner / "link.bin").symlink_to(secret)
    (inner / "results").mkdir()
    outside(inner / "model.onnx", **{key: value.format(folder=inner) for key, value in entries.items()})
    refused(inner / "model.onnx")


def stored_outside(name: str, location: str) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name=name, data_type=1, dims=[1, 16, 1, 1], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.append(onnx.StringStringEntryProto(key="location", value=location))
    return tensor


BRANCHED = f"""{HEADER} g (bool cond, {MAP} x) => ({MAP} y) {{ y = If(cond) <
    then_branch = t () => ({MAP} a) {{ a = Mul(x, secret) }}, else_branch = e () => ({MAP} b) {{ b = Neg(x) }} > }}"""


def test_weights_of_a_branch_are_not_read_from_elsewhere(refused: Refused, path: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.bin").write_bytes(b"\x00\x00\x80\x3f" * 16)
    model = parsed(BRANCHED)
    model.graph.node[0].attribute[0].g.initializer.append(stored_outside("secret", "../secret.bin"))
    (tmp_path / "in" / "model.onnx").write_bytes(model.SerializeToString())
    refused(tmp_path / "in" / "model.onnx")


def test_constants_are_not_read_from_elsewhere(refused: Refused, path: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.bin").write_bytes(b"\x00\x00\x80\x3f" * 16)
    model = parsed(f"{HEADER} g ({MAP} x) => ({MAP} y) {{ y = Mul(x, secret) }}")
    constant = onnx.helper.make_node("Constant", [], ["secret"], value=stored_outside("v", "../secret.bin"))
    model.graph.node.insert(0, constant)
    (tmp_path / "in" / "model.onnx").write_bytes(model.SerializeToString())
    refused(tmp_path / "in" / "model.onnx")


def test_a_weight_of_another_size_than_its_shape_is_named(refused: Refused, path: Path) -> None:
    weights = {**se_weights(), "w1": noise(400, 16, 1, 1), "b1": noise(400), "w2": noise(16, 400, 1, 1)}
    model = parsed(SE_TEXT, **weights)
    for tensor in model.graph.initializer:
        if tensor.name == "w1":
            tensor.raw_data = tensor.raw_data[:-4]
    path.write_bytes(model.SerializeToString())
    assert "w1" in refused(path)


def test_a_small_weight_of_another_size_than_its_shape_is_refused(refused: Refused, path: Path) -> None:
    model = parsed(SE_TEXT, **se_weights())
    model.graph.initializer[1].raw_data = model.graph.initializer[1].raw_data[:-4]
    path.write_bytes(model.SerializeToString())
    refused(path)


# Graphs that can't be.

INVALID = {
    "a cycle": "a = Add(x, b)  b = Relu(a)  y = Neg(b)",
    "a node that reads itself": "y = Add(x, y)",
    "a name given twice": "a = Relu(x)  a = Neg(x)  y = Relu(a)",
    "an input's name given again": "x = Relu(x)  y = Neg(x)",
    "a value that nobody computes": "y = Add(x, nothing)",
    "an output that nobody computes": "z = Relu(x)",
    "an operator that doesn't exist": "y = Rleu(x)",
    "an attribute that doesn't exist": "y = Relu<slope = 2>(x)",
    "too few inputs": "y = Mul(x)",
    "too many outputs": "y, z = Relu(x)",
    "a domain that isn't imported": "y = other.Relu(x)",
}


@pytest.mark.parametrize("nodes", INVALID.values(), ids=INVALID.keys())
def test_an_invalid_graph_is_refused(refused: Refused, path: Path, nodes: str) -> None:
    path.write_bytes(parsed(f"{HEADER} g ({MAP} x) => ({MAP} y) {{ {nodes} }}").SerializeToString())
    assert "model.onnx" in refused(path)


def test_a_cycle_is_called_one(refused: Refused, path: Path) -> None:
    path.write_bytes(parsed(f"{HEADER} g ({MAP} x) => ({MAP} y) {{ {INVALID['a cycle']} }}").SerializeToString())
    assert "cycle" in refused(path)


def test_a_cycle_through_a_branch_is_refused(refused: Refused, path: Path) -> None:
    text = BRANCHED.replace("secret", "q").replace("y = If", "p = If").replace("> }", "> q = Relu(p)  y = Neg(q) }")
    path.write_bytes(parsed(text).SerializeToString())
    refused(path)


@pytest.mark.parametrize("large", [True, False])
def test_two_weights_of_one_name_are_refused(refused: Refused, path: Path, large: bool) -> None:
    hidden = 400 if large else 4
    weights = {**se_weights(), "w1": noise(hidden, 16, 1, 1), "b1": noise(hidden), "w2": noise(16, hidden, 1, 1)}
    model = parsed(SE_TEXT, **weights)
    model.graph.initializer.append(onnx.numpy_helper.from_array(noise(hidden, 16, 1, 1, seed=5), "w1"))
    path.write_bytes(model.SerializeToString())
    refused(path)


def test_a_weight_without_a_name_is_refused(refused: Refused, path: Path) -> None:
    model = parsed(SE_TEXT, **se_weights())
    model.graph.initializer.append(onnx.numpy_helper.from_array(noise(3000), ""))
    path.write_bytes(model.SerializeToString())
    refused(path)


def test_a_file_without_an_operator_set_is_refused(refused: Refused, path: Path) -> None:
    model = parsed(SE_TEXT, **se_weights())
    del model.opset_import[:]
    path.write_bytes(model.SerializeToString())
    refused(path)


def test_an_operator_set_of_the_future_is_no_defect_of_ours(path: Path, tmp_path: Path) -> None:
    model = parsed(SE_TEXT, **se_weights())
    model.opset_import[0].version = 1000
    path.write_bytes(model.SerializeToString())
    result = clean_file(path, tmp_path / "clean.onnx", threads=1)
    assert result.not_compared
    assert onnx.load(result.path).opset_import[0].version == 1000


def test_a_function_that_calls_itself_is_refused(refused: Refused, path: Path) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17, "local" : 1]> g ({MAP} x) => ({MAP} y) {{ y = local.F(x) }}
        <domain: "local", opset_import: ["" : 17, "local" : 1]> F (a) => (b) {{ b = local.F(a) }}"""
    path.write_bytes(parsed(text).SerializeToString())
    refused(path)


def test_a_damaged_source_that_is_the_result_stays(path: Path, whole: bytes) -> None:
    path.write_bytes(whole[:-100])
    with pytest.raises(UnreadableGraphError):
        clean_file(path, path)
    assert path.read_bytes() == whole[:-100]
    assert [p.name for p in path.parent.iterdir()] == ["model.onnx"]


def test_a_file_without_permission_to_read_is_refused(refused: Refused, path: Path, whole: bytes) -> None:
    path.write_bytes(whole)
    path.chmod(0)
    try:
        path.open("rb").close()
    except PermissionError:
        with pytest.raises(UnreadableGraphError, match="ermission"):
            inspect_file(path)
    else:
        pytest.skip("root may read everything")


def test_an_unsorted_graph_is_no_damaged_one(path: Path, tmp_path: Path) -> None:
    nodes = "y = Neg(b)  b = Relu(a)  a = Abs(x)"
    path.write_bytes(parsed(f"{HEADER} g ({MAP} x) => ({MAP} y) {{ {nodes} }}").SerializeToString())
    result = clean_file(path, tmp_path / "clean.onnx", threads=1)
    assert [node.op_type for node in onnx.load(result.path).graph.node] == ["Abs", "Relu", "Neg"]


def test_a_copy_in_another_folder_needs_its_weights(refused: Refused, path: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    outside(path)
    shutil.copy(path, tmp_path / "elsewhere" / "model.onnx")
    assert "weights.bin" in refused(tmp_path / "elsewhere" / "model.onnx")


def functions(calls: Callable[[int], str | None], count: int) -> onnx.ModelProto:
    """Functions F0, F1, ...: each calls the named one twice, or is a Relu; the graph calls the last."""
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("l", 1)]
    node = onnx.helper.make_node
    made = []
    for i in range(count):
        name = calls(i)
        twice = [node(name or "", ["a"], ["m"], domain="l"), node(name or "", ["m"], ["b"], domain="l")]
        body = twice if name else [node("Relu", ["a"], ["b"])]
        made.append(onnx.helper.make_function("l", f"F{i}", ["a"], ["b"], body, opsets))
    one = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = onnx.helper.make_graph([node(f"F{count - 1}", ["x"], ["y"], domain="l")], "g", one[:1], one[1:])
    return onnx.helper.make_model(graph, opset_imports=opsets, functions=made, ir_version=8)


def before(i: int) -> str | None:
    return f"F{i - 1}" if i else None


def test_functions_that_unfold_without_end_are_refused(path: Path, refused: Refused) -> None:
    path.write_bytes(functions(before, 40).SerializeToString())
    assert "549,755,813,888 nodes, with its functions inlined" in refused(path)
    path.write_bytes(functions(lambda i: "F0", 2).SerializeToString())
    assert "its function F0 calls itself" in refused(path)


def test_functions_of_usual_depth_are_read(path: Path) -> None:
    path.write_bytes(functions(before, 8).SerializeToString())
    inspect_file(path)


@pytest.mark.parametrize(
    ("operator", "inputs"),
    [
        ("Range", [np.array(0), np.array(10**18), np.array(1)]),
        ("ConstantOfShape", [np.array([10**9, 10**9])]),
        ("Expand", [np.zeros(1, np.int64), np.array([10**9, 10**9])]),
        ("Tile", [np.zeros(1, np.int64), np.array([10**18])]),
    ],
)
def test_a_constant_larger_than_memory_is_not_computed(
    operator: str, inputs: list[Any], path: Path, refused: Refused
) -> None:
    stored = [onnx.numpy_helper.from_array(array, f"i{i}") for i, array in enumerate(inputs)]
    node = onnx.helper.make_node(operator, [tensor.name for tensor in stored], ["grown"])
    total = onnx.helper.make_node("Size", ["grown"], ["y"])
    declared = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT64, [])
    given = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([node, total], "g", [given], [declared], stored)
    opsets = [onnx.helper.make_opsetid("", 17)]
    path.write_bytes(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    assert f"1e+18 elements in its {operator}" in refused(path)
