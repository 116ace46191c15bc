"""From a file to an engine with its record, and everything that can be wrong on the way."""

import errno
import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import onnx
import pytest
from msgspec import structs

from attn_export.exporter.engine import job as building
from attn_export.exporter.engine.backend import INSTALL, MODULES, Backend
from attn_export.exporter.engine.profile import Sizes
from attn_export.exporter.engine.settings import EngineSettings
from attn_export.exporter.engine.sidecar import sidecar_path
from attn_export.exporter.errors import (
    EngineError,
    OutputError,
    RuntimeUnavailableError,
    UnreadableGraphError,
    UsageError,
)
from attn_export.exporter.records.document import plain as document_of
from attn_export.exporter.records.document import schema
from attn_export.exporter.records.engine import BuildOptions, EngineRecord
from attn_export.exporter.system.files import sha256_of
from attn_export.exporter.system.progress import Advance
from attn_export.exporter.workflows.clean import clean_file
from tests.engine.building import build_file
from tests.engine.graphs import conv, eight_bits, gated, node, plain, saved, stated, weight

pytestmark = pytest.mark.usefixtures("rtx")

SM86 = EngineSettings(gpus=("sm86",))
Left = Callable[[], set[str]]


class Listener:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.notes: list[str] = []
        self.shares: dict[str, list[float]] = {}

    @contextmanager
    def stage(self, title: str) -> Iterator[Advance]:
        self.stages.append(title)
        yield self.shares.setdefault(title, []).append

    def note(self, message: str) -> None:
        self.notes.append(message)


def record_of(engine: Path) -> dict[str, Any]:
    """What stands beside it, which is what the schema says and belongs to these bytes."""
    document: dict[str, Any] = json.loads(sidecar_path(engine).read_text(encoding="utf-8"))
    jsonschema.validate(document, schema(EngineRecord))
    assert (document["sha256"], document["bytes"]) == (sha256_of(engine), engine.stat().st_size)
    return document


# What is made.


@pytest.mark.parametrize(("name", "form"), [("se_resnet8", "legacy"), ("cbam_resnet8", "short")])
def test_networks_become_engines_for_several_gpus(
    network: Callable[..., Path], tmp_path: Path, left: Left, name: str, form: str
) -> None:
    source = network(name, form)
    made = build_file(source, tmp_path / "new" / "model.engine", EngineSettings(gpus=("sm86", "RTX 4090")))
    record = record_of(made.path)
    assert record == document_of(made.record), "what is returned is what was written"
    assert left() == {"new", "new/model.engine", "new/model.engine.json"}
    assert record["gpus"] == ["sm86", "sm89"]
    assert record["backend"]["name"] == "tensorrt-rtx"
    assert record["onnx"] == {"path": source.name, "sha256": sha256_of(source), "weights_sha256": {}}
    assert [block["module_path"] for block in record["attention"]] == [f"layer{i}.0.attention" for i in (1, 2, 3)]
    assert len(record["kernels"]["kernels"]) == record["cost"]["kernels"]
    assert record["cost"]["kernels"] > record["cost"]["kernels_without_attention"] == 12
    assert record["precision"]["kernels"] == ["FLOAT"]
    assert record["precision"]["mixed"] == []
    assert record["profile"]["input"]["max"] == [8, 3, 8, 8]
    assert record["build"]["seconds"] > 0
    assert made.record.failed == {}


def test_without_a_name_the_engine_is_for_every_gpu_from_ampere_on(tmp_path: Path) -> None:
    made = build_file(plain(tmp_path / "a.onnx"), tmp_path / "a.engine")
    assert record_of(made.path)["gpus"] == ["portable"]
    assert made.record.backend.why, "who builds was chosen, so it is told why"


def test_two_builds_differ_in_hash_and_times_only(tmp_path: Path) -> None:
    source = gated(tmp_path / "a.onnx")
    first, second = (build_file(source, tmp_path / f"{i}.engine", SM86).record for i in (1, 2))
    differing = {key: getattr(first, key) for key in ("created", "sha256", "build", "bytes")}
    assert structs.replace(second, **differing) == first


def test_an_older_engine_is_replaced_with_its_record(tmp_path: Path) -> None:
    out = tmp_path / "a.engine"
    build_file(plain(tmp_path / "a.onnx"), out, SM86)
    build_file(gated(tmp_path / "b.onnx"), out, EngineSettings(gpus=("sm89",)))
    assert record_of(out)["onnx"]["path"] == "b.onnx"
    assert record_of(out)["gpus"] == ["sm89"]


@pytest.mark.parametrize("name", ["with spaces", "größe ☃", "a'b\"c", "100%", "plain.onnx"])
def test_paths_may_have_any_characters(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in" / name
    folder.mkdir(parents=True)
    source = gated(folder / f"{name}.onnx")
    assert record_of(build_file(source, tmp_path / "out" / name, SM86).path)["onnx"]["path"] == source.name


@pytest.mark.parametrize("as_text", [str, Path])
def test_paths_may_be_text_and_need_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_text: Any) -> None:
    plain(tmp_path / "a.onnx")
    monkeypatch.chdir(tmp_path)
    record_of(build_file(as_text("a.onnx"), as_text("a.engine"), SM86).path)


def test_names_of_nodes_and_tensors_may_have_any_characters(tmp_path: Path) -> None:
    nodes = [conv("größe ☃", "b [1], c", "w", "Schicht 1 ☃"), node("Relu", "x", "y")]
    nodes[1].input[0] = "b [1], c"
    path = saved(tmp_path / "a.onnx", nodes, [weight("w", 8, 8, 3, 3)], [stated("größe ☃")])
    record = record_of(build_file(path, tmp_path / "a.engine", SM86).path)
    assert list(record["profile"]) == ["größe ☃"]
    assert "Schicht 1 ☃" in [name for kernel in record["kernels"]["kernels"] for name in kernel["nodes"]]


def test_several_inputs_and_outputs_are_all_recorded(tmp_path: Path) -> None:
    nodes = [conv("x", "a"), node("Add", "a u", "y"), node("GlobalAveragePool", "a", "v")]
    both = [stated("x"), stated("u", ("N", 8, 1, 1))], [stated("y"), stated("v", ("N", 8, 1, 1))]
    path = saved(tmp_path / "a.onnx", nodes, [weight("w", 8, 8, 3, 3)], *both)
    record = record_of(build_file(path, tmp_path / "a.engine", replace(SM86, sizes=Sizes((1, 2, 4)))).path)
    assert record["io"] == {
        "inputs": {"x": ["N", 8, 8, 8], "u": ["N", 8, 1, 1]},
        "types": dict.fromkeys("xuyv", "float32"),
        "outputs": {"y": ["N", 8, 8, 8], "v": ["N", 8, 1, 1]},
    }
    assert record["profile"]["u"] == {"min": [1, 8, 1, 1], "opt": [2, 8, 1, 1], "max": [4, 8, 1, 1]}


OPEN = ("N", 8, "height", "width")


def test_open_sizes_take_what_was_asked(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "a.onnx", [conv("x", "y")], [weight("w", 8, 8, 3, 3)], [stated("x", OPEN)], [stated("y", OPEN)]
    )
    sizes = Sizes((1, 2, 4), ((8, 12), (16, 16), (32, 24)))
    record = record_of(build_file(path, tmp_path / "a.engine", replace(SM86, sizes=sizes)).path)
    assert record["profile"]["x"] == {"min": [1, 8, 8, 12], "opt": [2, 8, 16, 16], "max": [4, 8, 32, 24]}


def test_axes_that_a_file_gives_one_placeholder_are_told_apart_after_cleaning(tmp_path: Path) -> None:
    """Paddle2ONNX calls height and width "?"."""
    sizes = ("N", 8, "?", "?")
    path = saved(
        tmp_path / "a.onnx", [conv("x", "y")], [weight("w", 8, 8, 3, 3)], [stated("x", sizes)], [stated("y", sizes)]
    )
    settings = replace(SM86, sizes=Sizes((1, 1, 1), ((8, 12), (8, 12), (8, 12))))
    with pytest.raises(EngineError) as caught:
        build_file(path, tmp_path / "a.engine", settings)
    assert "attn-export clean" in caught.value.hint
    clean_file(path, tmp_path / "b.onnx", threads=1)
    record = record_of(build_file(tmp_path / "b.onnx", tmp_path / "b.engine", settings).path)
    assert record["profile"]["x"]["max"] == [1, 8, 8, 12]


def test_open_sizes_without_an_answer_are_refused(tmp_path: Path, left: Left) -> None:
    path = saved(
        tmp_path / "a.onnx", [conv("x", "y")], [weight("w", 8, 8, 3, 3)], [stated("x", OPEN)], [stated("y", OPEN)]
    )
    with pytest.raises(UsageError, match=r"axis 2 of the input 'x' is dynamic \(height\)") as caught:
        build_file(path, tmp_path / "a.engine", SM86)
    assert "--size" in caught.value.hint
    assert left() == {"a.onnx"}


def test_a_fixed_batch_is_kept(tmp_path: Path) -> None:
    shape = (2, 8, 8, 8)
    path = saved(
        tmp_path / "a.onnx", [conv("x", "y")], [weight("w", 8, 8, 3, 3)], [stated("x", shape)], [stated("y", shape)]
    )
    assert record_of(build_file(path, tmp_path / "a.engine", SM86).path)["profile"]["x"]["max"] == [2, 8, 8, 8]
    with pytest.raises(UsageError, match=r"static \(2\)"):
        build_file(path, tmp_path / "b.engine", replace(SM86, sizes=Sizes((1, 1, 4))))


def test_weights_outside_of_the_file_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx.load(gated(tmp_path / "a.onnx"))
    (tmp_path / "in").mkdir()
    onnx.save(model, tmp_path / "in" / "b.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    monkeypatch.chdir("/")
    record_of(build_file(tmp_path / "in" / "b.onnx", tmp_path / "b.engine", SM86).path)


def test_progress_grows_to_its_end(tmp_path: Path) -> None:
    make_progress = Listener()
    build_file(gated(tmp_path / "a.onnx"), tmp_path / "a.engine", SM86, progress=make_progress)
    assert make_progress.stages == [
        "Building the engine for sm86",
        "Counting the kernels without attention",
    ]
    for title in make_progress.stages:
        shares = make_progress.shares[title]
        assert shares == sorted(shares)
        assert shares[0] >= 0
        assert shares[-1] == 1


def test_tensorrt_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    build_file(gated(tmp_path / "a.onnx"), tmp_path / "a.engine", SM86)
    with pytest.raises(EngineError):
        build_file(eight_bits(tmp_path / "f8.onnx"), tmp_path / "b.engine", SM86)
    with pytest.raises(EngineError):
        build_file(unsupported(tmp_path / "c.onnx"), tmp_path / "c.engine", SM86)
    assert capfd.readouterr() == ("", "")


class SpiedBuilder:
    """Notes the flags of a build. No cycle holds it, so that TensorRT's builder is freed with the build."""

    def __init__(self, trt: Any, builder: Any, seen: dict[str, bool]) -> None:
        self.trt, self.builder, self.seen = trt, builder, seen

    def __getattr__(self, name: str) -> Any:
        return getattr(self.builder, name)

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        trt = self.trt
        self.seen["TF32"] = config.get_flag(trt.BuilderFlag.TF32)
        self.seen["one stream"] = config.max_aux_streams == 0
        self.seen["strongly typed"] = network.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        return self.builder.build_serialized_network(network, config)


class Spied:
    """TensorRT whose builders note their flags."""

    def __init__(self, trt: Any, seen: dict[str, bool]) -> None:
        self.trt, self.seen = trt, seen

    def __getattr__(self, name: str) -> Any:
        return getattr(self.trt, name)

    def Builder(self, logger: Any) -> Any:
        self.seen["collections"] = gc.isenabled()
        return SpiedBuilder(self.trt, self.trt.Builder(logger), self.seen)


@pytest.mark.parametrize("tf32", [False, True])
def test_float32_is_rounded_only_where_that_was_asked(
    rtx: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tf32: bool
) -> None:
    seen: dict[str, bool] = {}
    spied = Backend(rtx.name, Spied(rtx.trt, seen))
    monkeypatch.setattr(building, "choose", lambda *_, **__: (spied, "as asked"))
    settings = replace(SM86, options=BuildOptions(tf32=tf32))
    made = build_file(plain(tmp_path / "a.onnx"), tmp_path / "a.engine", settings)
    assert seen == {"collections": False, "TF32": tf32, "one stream": True, "strongly typed": True}
    assert made.record.options.tf32 is tf32


# What can't be built.


def unsupported(path: Path) -> Path:
    """Three operators that TensorRT-RTX hasn't got, in two modules, and one that it has."""
    nodes = [
        conv("x", "a"),
        node("Det", "a", "d", "determinant"),
        node("Unique", "d", "u", "unique"),
        node("MyGate", "a", "y", "custom", domain="of.mine"),
    ]
    for one, place in zip(nodes[1:], ("head", "head", "layer1.attention"), strict=True):
        one.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=f"['', '{place}', '{place}.op']")
    outputs = [stated("y", ("N", 8, 8, 8)), stated("u", ("K",))]
    return saved(path, nodes, [weight("w", 8, 8, 3, 3)], outputs=outputs, domains=["of.mine"])


def test_all_operators_that_are_missing_are_named_at_once(tmp_path: Path, left: Left) -> None:
    with pytest.raises(EngineError, match=r"can't parse a\.onnx") as caught:
        build_file(unsupported(tmp_path / "a.onnx"), tmp_path / "a.engine", SM86)
    problems = [line.strip() for line in caught.value.message.splitlines()[1:]]
    assert len(problems) == 3
    for operator, name, module in [
        ("Det", "determinant", "head"),
        ("Unique", "unique", "head"),
        ("MyGate", "custom", "layer1.attention"),
    ]:
        (said,) = [problem for problem in problems if problem.startswith(f"{operator} ")]
        assert f"node {name!r} of {module}" in said
        assert not said.endswith(("false", ": "))
    assert "operators.md" in caught.value.hint
    assert caught.value.exit_code == 5
    assert left() == {"a.onnx"}


def test_a_kind_of_number_that_a_gpu_lacks_is_reported(tmp_path: Path, left: Left) -> None:
    source = eight_bits(tmp_path / "a.onnx")
    with pytest.raises(EngineError, match="fp8") as caught:
        build_file(source, tmp_path / "a.engine", SM86)
    assert "sm89" in caught.value.hint
    assert left() == {"a.onnx"}
    assert (
        "FLOAT8E4M3FN"
        in build_file(source, tmp_path / "a.engine", EngineSettings(gpus=("sm89",))).record.precision.kernels
    )


def product(path: Path) -> Path:
    """A float32 matrix product, which Turing hasn't got in TensorRT-RTX."""
    outputs = [stated("y", ("N", 32))]
    return saved(path, [node("Gemm", "x m", "y")], [weight("m", 64, 32)], [stated("x", ("N", 64))], outputs)


def test_turing_has_no_float32_products(tmp_path: Path, left: Left) -> None:
    with pytest.raises(EngineError, match="FP32 GEMM is not supported") as caught:
        build_file(product(tmp_path / "a.onnx"), tmp_path / "a.engine", EngineSettings(gpus=("sm75",)))
    assert "--precision fp16" in caught.value.hint
    assert left() == {"a.onnx"}


def test_the_gpu_that_stands_in_the_way_is_named(tmp_path: Path, left: Left) -> None:
    settings = EngineSettings(gpus=("sm86", "sm75", "sm89"))
    with pytest.raises(EngineError, match="no engine for sm75: ") as caught:
        build_file(product(tmp_path / "a.onnx"), tmp_path / "a.engine", settings)
    assert "--keep-going builds for sm86, sm89" in caught.value.hint
    assert left() == {"a.onnx"}


def test_the_others_are_built_where_that_was_asked(tmp_path: Path) -> None:
    make_progress = Listener()
    settings = EngineSettings(gpus=("sm86", "sm75", "sm89"), keep_going=True)
    made = build_file(product(tmp_path / "a.onnx"), tmp_path / "a.engine", settings, progress=make_progress)
    assert record_of(made.path)["gpus"] == ["sm86", "sm89"]
    assert list(made.record.failed) == ["sm75"]
    assert any("sm75" in note for note in make_progress.notes)


def test_where_none_can_be_built_going_on_makes_nothing(tmp_path: Path, left: Left) -> None:
    settings = EngineSettings(gpus=("sm86", "sm80"), keep_going=True)
    with pytest.raises(EngineError, match="fp8"):
        build_file(eight_bits(tmp_path / "a.onnx"), tmp_path / "a.engine", settings)
    assert left() == {"a.onnx"}


@pytest.mark.parametrize("content", [b"", b"no onnx", b"\0" * 4096, b"\x08\x0a\x12\x03abc"])
def test_what_is_no_onnx_is_refused(tmp_path: Path, left: Left, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(UnreadableGraphError, match=r"a\.onnx"):
        build_file(tmp_path / "a.onnx", tmp_path / "a.engine", SM86)
    assert left() == {"a.onnx"}


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    source = gated(tmp_path / "a.onnx")
    source.write_bytes(source.read_bytes()[:-700])
    with pytest.raises(UnreadableGraphError):
        build_file(source, tmp_path / "a.engine", SM86)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path, left: Left) -> None:
    for place in (tmp_path / "missing.onnx", tmp_path):
        with pytest.raises(UnreadableGraphError, match="can't be read"):
            build_file(place, tmp_path / "a.engine", SM86)
    assert left() == set()


def test_weights_that_are_not_there_are_refused(tmp_path: Path, left: Left) -> None:
    model = onnx.load(gated(tmp_path / "a.onnx"))
    onnx.save(model, tmp_path / "b.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(UnreadableGraphError, match=r"w\.bin"):
        build_file(tmp_path / "b.onnx", tmp_path / "a.engine", SM86)
    assert left() == {"a.onnx", "b.onnx"}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (BuildOptions(timing_cache=Path("t.cache")), "--timing-cache"),
        (BuildOptions(version_compatible=True), "--version-compatible"),
        (BuildOptions(hardware_compatible=True), "--hardware-compatible"),
        (BuildOptions(workspace_mib=0), "--workspace"),
        (BuildOptions(workspace_mib=-4), "--workspace"),
    ],
)
def test_options_that_the_backend_lacks_are_refused(
    tmp_path: Path, left: Left, options: BuildOptions, named: str
) -> None:
    with pytest.raises(UsageError, match=named) as caught:
        build_file(plain(tmp_path / "a.onnx"), tmp_path / "a.engine", replace(SM86, options=options))
    assert caught.value.hint
    assert left() == {"a.onnx"}


def test_a_workspace_is_taken(tmp_path: Path) -> None:
    settings = replace(SM86, options=BuildOptions(workspace_mib=64))
    assert (
        record_of(build_file(plain(tmp_path / "a.onnx"), tmp_path / "a.engine", settings).path)["options"][
            "workspace_mib"
        ]
        == 64
    )


@pytest.mark.parametrize("backend", ["auto", *MODULES])
def test_without_tensorrt_the_command_to_install_it_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: Left, backend: str
) -> None:
    for module in MODULES.values():
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RuntimeUnavailableError, match="not installed") as caught:
        build_file(plain(tmp_path / "a.onnx"), tmp_path / "a.engine", replace(SM86, backend=backend))
    assert INSTALL["tensorrt-rtx" if backend == "auto" else backend] in caught.value.hint
    assert caught.value.exit_code == 5
    assert left() == {"a.onnx"}


# What can't be written.


def test_a_file_in_place_of_the_folder_is_an_output_error(tmp_path: Path, left: Left) -> None:
    (tmp_path / "out").write_bytes(b"older")
    with pytest.raises(OutputError, match="can't be written") as caught:
        build_file(plain(tmp_path / "a.onnx"), tmp_path / "out" / "a.engine", SM86)
    assert caught.value.exit_code == 6
    assert left() == {"a.onnx", "out"}


@pytest.mark.parametrize("taken", ["a.engine", "a.engine.json"])
def test_a_folder_in_place_of_a_file_leaves_nothing(tmp_path: Path, left: Left, taken: str) -> None:
    (tmp_path / taken).mkdir()
    with pytest.raises(OutputError, match="Is a directory"):
        build_file(plain(tmp_path / "a.onnx"), tmp_path / "a.engine", SM86)
    assert left() == {"a.onnx", taken}


@pytest.mark.parametrize("ending", [".engine", ".json"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, left: Left, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    def full(write: Callable[..., Any]) -> Callable[..., Any]:
        def attempt(path: Path, *args: Any, **kwargs: Any) -> Any:
            if path.suffix == ending:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(path, *args, **kwargs)

        return attempt

    source = plain(tmp_path / "a.onnx")
    monkeypatch.setattr(Path, "write_bytes", full(Path.write_bytes))
    monkeypatch.setattr(Path, "write_text", full(Path.write_text))
    with pytest.raises(OutputError, match="No space left on device"):
        build_file(source, tmp_path / "a.engine", SM86)
    assert left() == {"a.onnx"}


def deep(path: Path) -> Path:
    """As many convolutions as take TensorRT more than a second."""
    nodes = [conv("x", "a0", "w")]
    for i in range(600):
        nodes += [conv(f"a{i}", f"b{i}", f"w{i % 40}"), node("Sigmoid", f"b{i}", f"a{i + 1}")]
    weights = [weight("w", 64, 8, 3, 3), *(weight(f"w{i}", 64, 64, 3, 3) for i in range(40))]
    return saved(path, [*nodes, node("Relu", "a600", "y")], weights, outputs=[stated("y", ("N", 64, 8, 8))])


# Each step waits, so that a build isn't over before a signal is sent from a busy machine.
INTERRUPTED = """
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from attn_export.exporter.engine.graph import read_graph
from attn_export.exporter.engine.job import EngineSettings, build_graph
def advance(share):
    print(share, flush=True)
    time.sleep(0.02)
class Listener:
    def stage(self, title):
        return nullcontext(advance)
    def note(self, message): pass
try:
    settings = EngineSettings(gpus=("sm80", "sm86", "sm89", "sm120"))
    facts, out = read_graph(Path(sys.argv[1])), Path(sys.argv[2])
    build_graph(facts, out, settings, precision=None, progress=Listener())
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize(
    ("steps", "pauses"),
    [(1, [0.0]), (100, [0.0]), (1, [0.0, 0.1, 0.1])],
    ids=["at once", "later", "again and again"],
)
def test_ctrl_c_stops_a_build_and_leaves_nothing(tmp_path: Path, left: Left, steps: int, pauses: list[float]) -> None:
    # A build is as fast as the machine: when to press is told in its own steps, not in seconds.
    source = deep(tmp_path / "a.onnx")
    command = [sys.executable, "-c", INTERRUPTED, str(source), str(tmp_path / "a.engine")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(steps):
            assert float(child.stdout.readline()) < 1
        for pause in pauses:
            time.sleep(pause)
            child.send_signal(signal.SIGINT)
        shares, said = child.communicate(timeout=600)
    # Pressed once more while Python shuts down, it ends the process the way the system does.
    assert child.returncode in ((130,) if len(pauses) == 1 else (130, -signal.SIGINT))
    assert said == ""
    assert all(float(share) < 1 for share in shares.split()), "it went on to the end"
    assert left() == {"a.onnx"}


def test_an_error_of_a_listener_is_raised_and_leaves_nothing(
    tmp_path: Path, left: Left, capfd: pytest.CaptureFixture[str]
) -> None:
    class Broken(Listener):
        @contextmanager
        def stage(self, title: str) -> Iterator[Advance]:
            def advance(_: float) -> None:
                raise BrokenPipeError(title)

            yield advance

    with pytest.raises(BrokenPipeError, match="Building the engine"):
        build_file(plain(tmp_path / "a.onnx"), tmp_path / "a.engine", SM86, progress=Broken())
    assert left() == {"a.onnx"}
    assert capfd.readouterr() == ("", "")
