"""Archives of torch.export that hold something else than a network: refused by name, and nothing runs."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.errors import InputError, UnreadableCheckpointError, UntrustedCheckpointError

Records = dict[str, bytes]
MODEL, WEIGHTS, CONSTANTS = "models/model.json", "data/weights/model_weights_config.json", "data/constants/"
DOCUMENTS = (MODEL, WEIGHTS, CONSTANTS + "model_constants_config.json")


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.offset = torch.ones(2, 1, 1)

    def forward(self, image: torch.Tensor) -> Any:
        with torch.no_grad():
            gate = torch.sigmoid(self.conv(image))
        return (gate + self.offset).reshape(image.shape[0], 2, -1)


@pytest.fixture(scope="module")
def records() -> Records:
    """The parts of an honest archive."""
    stream = io.BytesIO()
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(Small().eval(), (torch.zeros(2, 3, 8, 8),), dynamic_shapes=shapes)
    torch.export.save(program, stream)
    with zipfile.ZipFile(stream) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def written(records: Records, folder: Path, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(folder / "a.pt2", "w", compression) as archive:
        for name, content in records.items():
            archive.writestr(f"a/{name}", content)
    return folder / "a.pt2"


def edited(records: Records, edit: Callable[[Any, Any, Any], object]) -> Records:
    """The records after a change of the documents of graph, weights and constants."""
    documents = [json.loads(records[name]) for name in DOCUMENTS]
    edit(*documents)
    return {**records, **dict(zip(DOCUMENTS, (json.dumps(d).encode() for d in documents), strict=True))}


def first_node(graph: Any) -> Any:
    return next(node for node in nodes(graph) if node["target"].startswith("torch.ops.aten.add"))


def nodes(document: Any) -> Any:
    return document["graph_module"]["graph"]["nodes"]


def sizes(document: Any) -> Any:
    return document["graph_module"]["graph"]["tensor_values"]["image"]["sizes"]


def weight(document: Any) -> Any:
    return document["config"]["conv.weight"]


def test_the_honest_archive_is_read(records: Records, tmp_path: Path) -> None:
    assert load(written(records, tmp_path)).inputs[0].shape == (1, 3, 8, 8)


def test_the_trap_in_an_expression_goes_off_in_pytorchs_loader(records: Records, tmp_path: Path, marker: Path) -> None:
    """Without this the rest of the file would prove nothing."""
    path = written(edited(records, lambda g, w, c: expression(g, f"exec(\"open({str(marker)!r}, 'w')\")")), tmp_path)
    with pytest.raises(UntrustedCheckpointError):
        load(path)
    assert not marker.exists()
    with pytest.raises(InputError):
        load(path, trust=True)
    assert marker.exists()


def expression(document: Any, text: str) -> None:
    sizes(document)[0]["as_expr"]["expr_str"] = text


EXPRESSIONS = [
    "__import__('os').system('touch MARKER')",
    "().__class__",
    "(lambda: 0)()",
    "[x for x in (1,)]",
    'Symbol(\'__import__("os").system("touch MARKER")\')',
    "Symbol('s0', **{})",
    "s0 if s1 else s2",
    "f'{s0}'",
    "open('MARKER', 'w')",
    "s0.func",
    "s0[0]",
    "(s0 := 1)",
    "s0 +",
    "(" * 400 + "s0" + ")" * 400,
    "s0" + "+s0" * 20_000,
]


@pytest.mark.parametrize("text", EXPRESSIONS, ids=range(len(EXPRESSIONS)))
def test_expressions_that_are_not_of_sizes_are_refused(
    text: str, records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(edited(records, lambda g, w, c: expression(g, text)), tmp_path)
    refused(path, "symbolic expression")
    assert not (tmp_path / "MARKER").exists()


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s77', positive=True, integer=True)",
        "Add(Integer(-2), Symbol('s6', positive=True, integer=True))",
        "FloorDiv(s0 + 2*s1, 4) - Max(1, s2) % 3",
        "Mod(s0, 2)",
        "s0//2",
        "Float('0.5', precision=53)",
        "u0",
        "Eq(s0, 3)",
    ],
)
def test_expressions_of_sizes_are_read(text: str, records: Records, tmp_path: Path) -> None:
    load(written(edited(records, lambda g, w, c: expression(g, text)), tmp_path))


def refused(path: Path, reason: str) -> None:
    with pytest.raises(UntrustedCheckpointError, match=reason) as caught:
        load(path)
    assert caught.value.exit_code == 3
    assert "Nothing was run" in caught.value.message
    assert "--trust" in caught.value.hint


@pytest.mark.parametrize(
    "target",
    [
        "torch.hub.load",
        "torch.load",
        "torch.ops.load_library",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default",
        "torch.ops.aten.set_.source_Storage",
        "torch.ops.aten._print.default",
        "torch.ops.aten.__class__.mro",
        "torch.ops.aten.add.__call__",
        "torch.ops.aten.nothing.default",
        "torch.ops.aten.max_pool2d_with_indices_backward.default",
        "torch.ops.aten.fbgemm_linear_int8_weight.default",
        "torch.ops.aten.resize_.default",
        "torch.ops.aten.set_data.default",
        "torch.ops.mine.op.default",
        "torch.ops.higher_order.invoke_subgraph",
        "_operator.methodcaller",
        "_operator.pow",
        "math.factorial",
        "os.system",
        "builtins.eval",
        "#mine:op",
    ],
)
def test_only_operators_that_compute_tensors_are_called(target: str, records: Records, tmp_path: Path) -> None:
    path = written(edited(records, lambda g, w, c: first_node(g).update(target=target)), tmp_path)
    refused(path, "it calls ")


ARGUMENTS = {
    "operator": {"as_operator": "torch.hub.load"},
    "object": {"as_custom_obj": {"name": "x", "class_fqn": "os.system"}},
    "graph": {"as_graph": {"name": "g", "graph": {}}},
    "layout": {"as_layout": 1},
    "type": {"as_scalar_type": 99},
}


@pytest.mark.parametrize("argument", ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments_that_are_no_plain_values_are_refused(
    argument: dict[str, Any], records: Records, tmp_path: Path
) -> None:
    path = written(edited(records, lambda g, w, c: first_node(g)["inputs"][1].update(arg=argument)), tmp_path)
    refused(path, "it has ")


PARTS = {
    "a compiled part": ("data/aotinductor/model/a.so", "may be code"),
    "a pickle": ("data.pkl", "may be code"),
    "an object": (CONSTANTS + "custom_obj_0", "may be code"),
    "an opaque object": (CONSTANTS + "opaque_obj_0", "may be code"),
    "pickled weights": ("data/weights/model.pt", "may be code"),
    "a second program": ("models/other.json", "holds 2 programs"),
    "a path": ("../../a", "may be code"),
}


@pytest.mark.parametrize(("name", "reason"), PARTS.values(), ids=PARTS)
def test_parts_that_are_no_data_are_refused(
    name: str, reason: str, records: Records, traps: Any, marker: Path, tmp_path: Path
) -> None:
    refused(written({**records, name: pickle.dumps(traps["builtins.eval"])}, tmp_path), reason)
    assert not marker.exists()


def test_sample_inputs_that_name_code_are_refused(records: Records, traps: Any, marker: Path, tmp_path: Path) -> None:
    stream = io.BytesIO()
    torch.save(((traps["builtins.eval"],), {}), stream)
    refused(written({**records, "data/sample_inputs/model.pt": stream.getvalue()}, tmp_path), "its sample inputs want")
    assert not marker.exists()


@pytest.mark.parametrize("path_name", ["custom_obj_0", "opaque_obj_0", "../../etc/passwd"])
def test_constants_that_are_objects_are_refused(path_name: str, records: Records, tmp_path: Path) -> None:
    path = written(edited(records, lambda g, w, c: c["config"]["offset"].update(path_name=path_name)), tmp_path)
    refused(path, "offset is a pickled object")


def test_pickled_weights_are_refused(records: Records, tmp_path: Path) -> None:
    refused(written(edited(records, lambda g, w, c: weight(w).update(use_pickle=True)), tmp_path), "pickled object")


def test_guards_are_not_run(records: Records, marker: Path, tmp_path: Path) -> None:
    code = [f"open({str(marker)!r}, 'w')"]
    load(written(edited(records, lambda g, w, c: g.update(guards_code=code)), tmp_path))
    assert not marker.exists()


def test_packed_parts_are_refused(records: Records, tmp_path: Path) -> None:
    refused(written(records, tmp_path, zipfile.ZIP_DEFLATED), "are compressed")


def overlapping(path: Path) -> None:
    """Let the table of contents say that a small part goes on to the end."""
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\1\2")
    content[entry + 20 : entry + 28] = (len(content) - 100).to_bytes(4, "little") * 2
    path.write_bytes(content)


def test_parts_that_overlap_are_refused(records: Records, tmp_path: Path) -> None:
    path = written(records, tmp_path)
    overlapping(path)
    refused(path, "overlap")


LIES: dict[str, Callable[[Any, Any, Any], object]] = {
    "larger than its bytes": lambda g, w, c: weight(w)["tensor_meta"].update(sizes=[{"as_int": 10**6}] * 4),
    "10^12 times one number": lambda g, w, c: weight(w)["tensor_meta"].update(
        sizes=[{"as_int": 10**12}], strides=[{"as_int": 0}]
    ),
    "negative stride": lambda g, w, c: weight(w)["tensor_meta"]["strides"].__setitem__(0, {"as_int": -1}),
    "negative offset": lambda g, w, c: weight(w)["tensor_meta"].update(storage_offset={"as_int": -1}),
    "offset beyond": lambda g, w, c: weight(w)["tensor_meta"].update(storage_offset={"as_int": 2**63}),
    "no strides": lambda g, w, c: weight(w)["tensor_meta"].update(strides=[]),
    "no bytes": lambda g, w, c: weight(w).update(path_name="weight_99"),
    "no weight": lambda g, w, c: w["config"].pop("conv.weight"),
    "a weight called forward": lambda g, w, c: rename_weight(g, w, "forward"),
    "a weight called __class__": lambda g, w, c: rename_weight(g, w, "__class__"),
    "a weight without a name": lambda g, w, c: rename_weight(g, w, ""),
    "a weight with a path": lambda g, w, c: rename_weight(g, w, "../a"),
    "outputs of another number": lambda g, w, c: g["graph_module"]["module_call_graph"][0]["signature"].update(
        out_spec='[1, {"type": "builtins.tuple", "context": "null", "children_spec": []}]'
    ),
    "a value of no node": lambda g, w, c: first_node(g)["inputs"][0].update(arg={"as_tensor": {"name": "nowhere"}}),
    "a value of itself": lambda g, w, c: first_node(g)["inputs"][0].update(arg=first_node(g)["outputs"][0]),
    "an output of no node": lambda g, w, c: g["graph_module"]["signature"]["output_specs"][0]["user_output"].update(
        arg={"as_tensor": {"name": "nowhere"}}
    ),
    "no graph": lambda g, w, c: g.pop("graph_module"),
}


def rename_weight(graph: Any, weights: Any, name: str) -> None:
    weights["config"][name] = weights["config"].pop("conv.weight")
    spec = next(s for s in graph["graph_module"]["signature"]["input_specs"] if "parameter" in s)
    spec["parameter"]["parameter_name"] = name


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_documents_that_lie_are_damaged(lie: Callable[..., object], records: Records, tmp_path: Path) -> None:
    with pytest.raises(UnreadableCheckpointError, match="truncated or damaged"):
        load(written(edited(records, lie), tmp_path))


@pytest.mark.parametrize("content", [b"[" * 10**5, b"{}", b"", b"\xff", b'{"graph_module": ' + b"[" * 1000])
def test_a_document_that_is_none_is_damaged(content: bytes, records: Records, tmp_path: Path) -> None:
    with pytest.raises(UnreadableCheckpointError):
        load(written({**records, MODEL: content}, tmp_path))


def test_a_program_that_asks_for_all_memory_is_refused_before_it_runs(tmp_path: Path) -> None:
    class Filling(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.full((4,), 1.0).sum()

    torch.export.save(torch.export.export(Filling(), (torch.zeros(2, 3),)), tmp_path / "a.pt2")
    assert load(tmp_path / "a.pt2").inputs
    with zipfile.ZipFile(tmp_path / "a.pt2") as archive, zipfile.ZipFile(tmp_path / "b.pt2", "w") as written:
        for name in archive.namelist():
            written.writestr(name, archive.read(name).replace(b'{"as_ints": [4]}', b'{"as_ints": [40000000000000]}'))
    with pytest.raises(InputError, match="makes a tensor of 40000000000000, more than half"):
        load(tmp_path / "b.pt2")


def test_a_program_of_more_nodes_than_any_network_is_refused(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def edit(graph: Any, *_: Any) -> None:
        graph["graph_module"]["graph"]["nodes"] *= 5

    monkeypatch.setattr("attn_export.exporter.checkpoint.exported.read.MOST_NODES", 10)
    with pytest.raises(InputError, match="10 are the limit"):
        load(written(edited(records, edit), tmp_path))
