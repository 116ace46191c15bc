"""What is read of the kernels: in the logs of real builds, in the inspector's JSON, and in text that is neither."""

import json
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from attn_export.exporter.engine.kernels import read_inspector, read_log
from attn_export.exporter.engine.log import Log
from attn_export.exporter.records.engine import KernelReport
from tests.engine.conftest import Engine
from tests.engine.graphs import all_half, conv, eight_bits, node, plain, saved, stated, weight

# The format of the log isn't promised by anyone. These are the versions that it was read of.
KNOWN = ("1.7.",)
CHANGED = "TensorRT-RTX {} writes its log in another way: look at the lines after 'Layers:' and mend engine/kernels.py"


@pytest.fixture(scope="module")
def log_text(engine: Callable[..., Engine], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The message of a real build that lists the kernels."""
    made = engine(plain(tmp_path_factory.mktemp("log") / "plain.onnx"))
    listed = [text for _, text in made.built.log.messages if text.startswith("Layers:")]
    assert len(listed) == 1, CHANGED.format(version("tensorrt-rtx"))
    return listed[0]


def of(*messages: str) -> KernelReport:
    return read_log(Log([(4, message) for message in messages]))


# Engines that were really built.


def test_the_installed_version_writes_what_is_read(engine: Callable[..., Engine], tmp_path: Path) -> None:
    installed = version("tensorrt-rtx")
    report = engine(plain(tmp_path / "plain.onnx")).report
    seen = [(kernel.kind, kernel.nodes) for kernel in report.kernels]
    expected = [("kgen", ()), ("correlation", ("first", "relu")), ("correlation", ("second",)), ("kgen", ())]
    if not installed.startswith(KNOWN):
        assert any(nodes for _, nodes in seen), CHANGED.format(installed)
        pytest.skip(f"TensorRT-RTX {installed} is newer than what the numbers are for; its log can be read")
    assert seen == expected, CHANGED.format(installed)
    assert {(kernel.reads, kernel.writes) for kernel in report.kernels} == {(("FLOAT",), ("FLOAT",))}
    assert [kernel.bytes_written for kernel in report.kernels] == [8 * 8 * 8 * 4] * 4, "for each image"
    assert report.types == ("FLOAT",)
    assert report.weights_bytes is not None
    assert report.weights_bytes >= 2 * 8 * 8 * 9 * 4
    assert report.activation_bytes is not None


def test_half_precision_is_seen(engine: Callable[..., Engine], tmp_path: Path) -> None:
    report = engine(all_half(tmp_path / "half.onnx")).report
    assert report.types == ("FLOAT16", "FLOAT")
    assert [k.reads + k.writes for k in report.kernels if "conv_a" in k.nodes] == [("FLOAT16", "FLOAT16")]
    assert [k.bytes_written for k in report.kernels if "conv_a" in k.nodes] == [8 * 8 * 8 * 2]


def test_eight_bits_are_seen(engine: Callable[..., Engine], tmp_path: Path) -> None:
    report = engine(eight_bits(tmp_path / "f8.onnx"), "sm89").report
    assert [kernel.reads for kernel in report.kernels if "conv_y" in kernel.nodes] == [("FLOAT8E4M3FN",)]


def test_an_engine_for_several_gpus_is_listed_once(engine: Callable[..., Engine], tmp_path: Path) -> None:
    path = plain(tmp_path / "plain.onnx")
    assert engine(path, "sm86", "sm89").report.kernels == engine(path, "sm86").report.kernels


def test_sizes_that_are_open_leave_the_bytes_unknown(engine: Callable[..., Engine], tmp_path: Path) -> None:
    from attn_export.exporter.engine.profile import Sizes

    shape = ("N", 8, "h", "w")
    path = saved(
        tmp_path / "open.onnx", [conv("x", "y")], [weight("w", 8, 8, 3, 3)], [stated("x", shape)], [stated("y", shape)]
    )
    report = engine(path, sizes=Sizes(images=((8, 8), (16, 16), (32, 32)))).report
    assert report.kernels
    assert {kernel.bytes_written for kernel in report.kernels} == {None}


NAMES = [
    "conv [1], a",
    "a]",
    "[b",
    "mul] [ONNX Layer: fake]",
    "größe ☃",
    "Metadata: z",
    "x, LayerType: kgen, Inputs: [y], Outputs: [z], Metadata: [ONNX Layer: q",
    "two\nlines",
    "tab\tand ' \" quotes",
    "{ Dimensions: [1,2], Datatype: Half }",
    "/layer1/layer1.0/Conv",
    "line\u2028separator",
]


@pytest.mark.parametrize("name", NAMES)
def test_nodes_may_have_any_name(engine: Callable[..., Engine], tmp_path: Path, name: str) -> None:
    path = plain(tmp_path / "named.onnx", (name, f"{name} relu", f"{name} again"))
    report = engine(path).report
    assert [kernel.kind for kernel in report.kernels] == ["kgen", "correlation", "correlation", "kgen"]
    assert [kernel.nodes for kernel in report.kernels if kernel.nodes] == [(name, f"{name} relu"), (f"{name} again",)]
    assert report.types == ("FLOAT",)


@pytest.mark.parametrize("name", ["a, b", "a [1]", "a], TacticName: b", "größe", "Datatype", "Outputs: [ c"])
def test_tensors_may_have_any_name(engine: Callable[..., Engine], tmp_path: Path, name: str) -> None:
    nodes = [conv("x", name, "w", "first"), conv(name, "y", "v", "second")]
    report = engine(saved(tmp_path / "a.onnx", nodes, [weight("w", 8, 8, 3, 3), weight("v", 8, 8, 3, 3)])).report
    assert [kernel.nodes for kernel in report.kernels if kernel.nodes] == [("first",), ("second",)]
    assert report.types == ("FLOAT",)
    assert {kernel.bytes_written for kernel in report.kernels} == {2048}


def test_nodes_without_names_are_found_again(engine: Callable[..., Engine], tmp_path: Path) -> None:
    made = engine(plain(tmp_path / "unnamed.onnx", ("", "", "")))
    listed = {name for kernel in made.report.kernels for name in kernel.nodes}
    assert listed == set(made.facts.types)


def test_nodes_of_one_name_have_the_types_of_all(engine: Callable[..., Engine], tmp_path: Path) -> None:
    """Names needn't be unique, and the log tells no more than the name."""
    nodes = [
        conv("x", "a", name="same"),
        node("Cast", "a", "b", to=10),
        node("Sigmoid", "b", "c", name="same"),
        node("Relu", "c", "d", name="same"),
        node("Cast", "d", "y", to=1),
    ]
    made = engine(saved(tmp_path / "same.onnx", nodes, [weight("w", 8, 8, 3, 3)]))
    assert made.facts.types["same"].all == {"FLOAT", "FLOAT16"}


def test_parallel_branches_are_all_listed(engine: Callable[..., Engine], tmp_path: Path) -> None:
    nodes = [conv("x", "y"), conv("u", "v", "w2")]
    both = [stated("x"), stated("u")], [stated("y"), stated("v")]
    report = engine(
        saved(tmp_path / "two.onnx", nodes, [weight("w", 8, 8, 3, 3), weight("w2", 8, 8, 3, 3)], *both)
    ).report
    assert {name for kernel in report.kernels for name in kernel.nodes} == {"conv_y", "conv_v"}
    assert {kernel.kind for kernel in report.kernels} == {"kgen", "correlation"}, "waiting is no work"


# Text.


def test_an_empty_log_gives_an_empty_report() -> None:
    assert read_log(Log()) == of("Layers:", "Total Weights Memory: unknown")
    assert read_log(Log()).kernels == ()
    assert read_log(Log()).types == ()
    assert (read_log(Log()).weights_bytes, read_log(Log()).activation_bytes) == (None, None)


def test_the_last_list_counts(log_text: str) -> None:
    """A build that fails and is tried again lists its kernels twice."""
    assert of(log_text, log_text) == of(log_text)
    assert len(of(log_text).kernels) == 4


@pytest.mark.parametrize("share", [0.05, 0.2, 0.4, 0.5, 0.7, 0.9, 0.99])
def test_a_list_that_is_cut_off_gives_what_is_whole(log_text: str, share: float) -> None:
    kernels, whole = of(log_text[: int(len(log_text) * share)]).kernels, of(log_text).kernels
    assert len(kernels) <= len(whole)
    assert kernels[:-1] == whole[: max(len(kernels) - 1, 0)]


def test_other_messages_are_no_kernels() -> None:
    line = "Name: a, LayerType: kgen, Inputs: [], Outputs: [], TacticName: , StreamId: 0, Metadata: [ONNX Layer: a]"
    assert of(line, f"Something\nLayers:\n{line}").kernels == ()
    assert [kernel.name for kernel in of(f"Layers:\n{line}").kernels] == ["a"]


@pytest.mark.parametrize("kind", ["signal", "wait", "shape_call"])
def test_what_is_no_work_is_no_kernel(log_text: str, kind: str) -> None:
    assert of(log_text.replace("LayerType: kgen", f"LayerType: {kind}")).types == ("FLOAT",)
    assert len(of(log_text.replace("LayerType: kgen", f"LayerType: {kind}")).kernels) == 2


PIECES = [
    "Layers:", "\n", "Name: ", "a", ", LayerType: ", "kgen", ", Inputs: [", " { ", "Dimensions: [", "-1,2", "--", "],",
    " Datatype: ", "Half", " }]", ", Constants: [", "], Outputs: ", "], TacticName: ", ", Metadata: ", "[ONNX Layer: ",
    "]", "\x1f", "Total Weights Memory: ", "9" * 30, " bytes", "１",
]  # fmt: skip


@given(parts=st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=40))
@example(["Layers:\nName: a, LayerType: k, Inputs: [ { Dimensions: [", "1" * 200, "x] }], Outputs: "])
def test_any_text_is_read_without_an_error(parts: list[str]) -> None:
    report = of("Layers:" + "".join(parts), "".join(parts))
    assert all(isinstance(kernel.name, str) for kernel in report.kernels)


@given(data=st.data())
def test_a_damaged_list_is_read_without_an_error(log_text: str, data: st.DataObject) -> None:
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(log_text))] * 2)))
    assert len(of(log_text[:start] + data.draw(st.text(max_size=8)) + log_text[stop:]).kernels) <= 5


def test_a_long_line_takes_little_cpu_time() -> None:
    """Milliseconds; a pattern that tries every way to read it would take hours."""
    line = "Layers:\nName: " + "a, LayerType: k, Inputs: [ { Dimensions: [" * 500 + "1" * 20000
    started = time.process_time()
    of(line)
    assert time.process_time() - started < 30


# The inspector of an engine that is loaded, which takes a GPU: its JSON, as TensorRT's documentation shows it.


def layer(name: str, kind: str, read: dict[str, Any], written: dict[str, Any], metadata: str = "") -> dict[str, Any]:
    return {"Name": name, "LayerType": kind, "Inputs": [read], "Outputs": [written], "Metadata": metadata}


def tensor(sizes: list[int], **types: str) -> dict[str, Any]:
    return {"Name": "t", "Location": "Device", "Dimensions": sizes, **types}


def in_one(words: str) -> dict[str, str]:
    return {"Format/Datatype": words}


TEN = [
    ("Row major linear FP32", "FLOAT"),
    ("Row-major linear FP16 format", "FLOAT16"),
    ("Channel major FP16 format where channel % 8 == 0", "FLOAT16"),
    ("Two wide channel vectorized row major FP16 format", "FLOAT16"),
    ("Thirty-two wide channel vectorized row major Int8 format", "INT8"),
    ("Row-major linear Int8", "INT8"),
    ("Row-major linear BFloat16 format", "BFLOAT16"),
    ("Row-major linear BF16 format", "BFLOAT16"),
    ("Row-major linear FP8 format", "FLOAT8E4M3FN"),
    ("Row-major linear INT4 format", "INT4"),
    ("Row-major linear Int32 format", "INT32"),
    ("Row-major linear Int64 format", "INT64"),
    ("Row-major linear Bool format", "BOOL"),
]


@pytest.mark.parametrize(("words", "kind"), TEN)
def test_tensorrt_10_names_format_and_type_together(words: str, kind: str) -> None:
    entry = layer("conv", "CaskConvolution", tensor([1, 8, 4, 4], **in_one(words)), tensor([2], **in_one(words)))
    (kernel,) = read_inspector(json.dumps({"Layers": [entry], "Bindings": ["x"]})).kernels
    assert (kernel.reads, kernel.writes) == ((kind,), (kind,))


@pytest.mark.parametrize(
    ("said", "kind"),
    [("Float", "FLOAT"), ("FP32", "FLOAT"), ("Half", "FLOAT16"), ("FP16", "FLOAT16"), ("Int8", "INT8")],
)
def test_tensorrt_11_names_them_apart(said: str, kind: str) -> None:
    types = {"Datatype": said, "Format": "Row major linear"}
    entry = layer("conv", "correlation", tensor([1, 8, 4, 4], **types), tensor([-1, 8, 2, 2], **types))
    report = read_inspector(json.dumps({"Layers": [entry], "I/O Tensors": []}))
    assert report.types == (kind,)
    assert report.kernels[0].bytes_written == 32 * {"FLOAT": 4, "FLOAT16": 2, "INT8": 1}[kind]


@pytest.mark.parametrize("between", ["", "\x1e", "\x1f"])
def test_the_inspector_names_the_nodes(between: str) -> None:
    metadata = f"[ONNX Layer: a [1], b]{between}[ONNX Layer: relu]"
    entry = layer("a + relu", "kgen", tensor([1]), tensor([1]), metadata)
    assert read_inspector(json.dumps({"Layers": [entry]})).kernels[0].nodes == ("a [1], b", "relu")


def test_layers_that_are_names_only_tell_nothing() -> None:
    """As an engine that was built without detailed verbosity tells them."""
    assert read_inspector(json.dumps({"Layers": ["conv + relu", "fc"]})).kernels == ()


WORD = st.sampled_from(["Layers", "Inputs", "Outputs", "Dimensions", "Datatype", "Format/Datatype", "Name", "Metadata"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD | st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


@given(layers=JSON)
@example([{"Inputs": None, "Outputs": [{"Dimensions": None}]}])
@example([{"Outputs": [{"Dimensions": ["a"], "Datatype": 3}]}])
def test_any_json_is_read_without_an_error(layers: Any) -> None:
    for document in (
        layers,
        {"Layers": layers},
        {"Layers": [layers]},
        {"Layers": [{"Inputs": layers, "Outputs": [layers]}]},
    ):
        read_inspector(json.dumps(document))


@given(text=st.text(max_size=50))
@example("[" * 100_000)
@example("{}")
@example("null")
def test_any_text_of_an_inspector_is_read_without_an_error(text: str) -> None:
    assert read_inspector(text).kernels == ()
