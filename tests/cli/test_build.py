"""`attn-export build`: engines of ONNX files, whoever wrote them, on a machine without a GPU."""

import io
import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from attn_export.cli import run
from attn_export.exporter.commands import build as build_command
from attn_export.exporter.engine import record as engine_records
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.records.engine import MixedKernel
from attn_export.exporter.system import gpus
from attn_export.exporter.system.files import sha256_of
from attn_export.exporter.system.progress import NullProgress
from attn_export.models.registry import create
from tests.engine.graphs import conv, node, plain, weight
from tests.engine.graphs import saved as saved_graph

pytest.importorskip("tensorrt_rtx")

Finished = subprocess.CompletedProcess[str]
Command = Callable[..., Finished]
Contents = Callable[[], dict[str, bytes | None]]

SIZE = 16
SM86 = ("--gpu", "sm86")


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this machine had none."""
    monkeypatch.setattr(gpus, "found", lambda: ())


def torch_export(path: Path, *, dynamo: bool, external: bool = False) -> Path:
    """A file of PyTorch's own exporters, untouched by us."""
    network = create("se_resnet8", num_classes=4).eval()
    options: dict[str, Any] = {"input_names": ["input"], "output_names": ["logits"]}
    if dynamo:
        shapes = ({0: torch.export.Dim("batch")},)
        options |= {"dynamo": True, "opset_version": 20, "dynamic_shapes": shapes, "external_data": external}
    else:
        axes = {"input": {0: "batch"}, "logits": {0: "batch"}}
        options |= {"dynamo": False, "opset_version": 17, "dynamic_axes": axes}
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.zeros(2, 3, SIZE, SIZE),), path, **options)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``legacy.onnx`` and ``raw.onnx`` as PyTorch writes them, ``model.onnx`` cleaned, each once."""
    place = tmp_path_factory.mktemp("files")
    torch_export(place / "legacy.onnx", dynamo=False)
    torch_export(place / "raw.onnx", dynamo=True, external=True)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        assert run(["clean", str(place / "legacy.onnx"), "-o", str(place / "model.onnx")]) == 0
    return place


@pytest.fixture
def onnx_folder(folder: Path, files: Path) -> Path:
    """The folder that the command runs in, with ``model.onnx`` and nothing else."""
    (folder / "model.pt").unlink()
    shutil.copy(files / "model.onnx", folder)
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def record_of(folder: Path, name: str = "model.engine") -> dict[str, Any]:
    return dict(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))


# ---- what is built ------------------------------------------------------------------------------------------------


def test_an_engine_appears_beside_the_file(attn_export: Command, onnx_folder: Path) -> None:
    before = (onnx_folder / "model.onnx").read_bytes()
    done = attn_export("build", "model.onnx", *SM86)
    assert done.returncode == 0, done.stderr
    assert names(onnx_folder) == {"model.onnx", "model.engine", "model.engine.json"}
    assert (onnx_folder / "model.onnx").read_bytes() == before
    record = record_of(onnx_folder)
    assert record["onnx"]["sha256"] == sha256_of(onnx_folder / "model.onnx")
    assert record["precision"]["requested"] is None
    for words in ("model.engine", "sm86", "float32, as the graph says", "layer1.0.attention", "attention adds"):
        assert words in done.stdout


def test_json_has_the_engines_and_no_tables(attn_export: Command, onnx_folder: Path) -> None:
    done = attn_export("build", "model.onnx", *SM86, "--precision", "fp32,fp16", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["schema_version"] == 3
    assert document["bundles"] == []
    assert [engine["path"] for engine in document["engines"]] == ["model.engine", "model.fp16.engine"]
    assert all(engine["record"]["cost"]["kernels"] > 0 for engine in document["engines"])
    (retyped,) = document["onnx"]
    assert retyped["path"] == "model.fp16.onnx"
    assert retyped["kept_in_float32"]
    assert retyped["validation"]["agrees"]


def test_a_float16_file_is_made_compared_and_built(attn_export: Command, onnx_folder: Path) -> None:
    done = attn_export("build", "model.onnx", *SM86, "--precision", "fp16")
    assert done.returncode == 0, done.stderr
    made = {"model.fp16.onnx", "model.fp16.engine", "model.fp16.engine.json"}
    assert names(onnx_folder) == {"model.onnx", *made}
    record = record_of(onnx_folder, "model.fp16.engine")
    assert record["onnx"]["sha256"] == sha256_of(onnx_folder / "model.fp16.onnx")
    assert record["precision"]["requested"] == "fp16"
    assert "error against its source" in done.stdout
    table = done.stdout.partition("Kept in float32")[2].partition("model.fp16.engine")[0]
    kept = {n.name for n in onnx.load(onnx_folder / "model.fp16.onnx").graph.node} & set(table.split())
    assert len(kept) >= 3
    assert "…" not in table, "nothing is cut off where there is room for it"


def test_a_float16_file_that_is_there_and_agrees_is_used_as_it_is(attn_export: Command, onnx_folder: Path) -> None:
    """It may be the proven one of an export, which a file that was only compared with its parent must not replace."""
    assert attn_export("build", "model.onnx", *SM86, "--precision", "fp16").returncode == 0
    half = onnx_folder / "model.fp16.onnx"
    onnx_file.add_metadata(half, {"attn_export.validation": "proven"})
    before = half.read_bytes()
    done = attn_export("build", "model.onnx", *SM86, "--precision", "fp16")
    assert done.returncode == 0, done.stderr
    assert "is there and agrees" in done.stderr
    assert half.read_bytes() == before
    assert record_of(onnx_folder, "model.fp16.engine")["onnx"]["sha256"] == sha256_of(half)


@pytest.mark.parametrize("stale", ["another network", "no graph"])
def test_a_float16_file_of_something_else_is_replaced_and_that_is_said(
    attn_export: Command, onnx_folder: Path, files: Path, stale: str
) -> None:
    half = onnx_folder / "model.fp16.onnx"
    if stale == "no graph":
        half.write_bytes(b"something")
    else:
        shutil.copy(files / "model.onnx", half)
    before = half.read_bytes()
    done = attn_export("build", "model.onnx", *SM86, "--precision", "fp16")
    assert done.returncode == 0, done.stderr
    assert "is no child of model.onnx: it is replaced" in done.stderr
    assert half.read_bytes() != before


def test_a_file_that_was_not_cleaned_is_built_with_a_word_on_it(
    attn_export: Command, onnx_folder: Path, files: Path
) -> None:
    shutil.copy(files / "legacy.onnx", onnx_folder)
    assert "built as it is" in attn_export("build", "legacy.onnx", *SM86).stderr
    assert "built as it is" not in attn_export("build", "model.onnx", *SM86).stderr


def test_blocks_keep_their_names_in_float16(attn_export: Command, onnx_folder: Path, files: Path) -> None:
    shutil.copy(files / "legacy.onnx", onnx_folder)
    assert attn_export("build", "legacy.onnx", *SM86, "--precision", "fp32,fp16").returncode == 0
    places = [
        [block["module_path"] for block in record_of(onnx_folder, name)["cost"]["blocks"]]
        for name in ("legacy.engine", "legacy.fp16.engine")
    ]
    assert places[0] == places[1] != []


def test_a_name_for_an_engine_where_a_bundle_is_written_is_a_mistake(refused: Command, onnx_folder: Path) -> None:
    refused(2, "build", "model.onnx", "--gpu", "sm87", "-o", "model.engine", says=["a deployment bundle is written"])


def test_a_float16_file_is_what_it_is(attn_export: Command, onnx_folder: Path) -> None:
    assert attn_export("build", "model.onnx", *SM86, "--precision", "fp16").returncode == 0
    (onnx_folder / "model.onnx").unlink()
    done = attn_export("build", "model.fp16.onnx", *SM86, "--precision", "fp16", "-o", "again.engine")
    assert done.returncode == 0, done.stderr
    assert {"again.engine", "again.engine.json"} <= names(onnx_folder)
    assert "model.fp16.fp16.onnx" not in names(onnx_folder)


def test_a_float16_file_can_not_be_made_float32_again(attn_export: Command, refused: Command, folder: Path) -> None:
    half = onnx.TensorProto.FLOAT16
    nodes = [
        node("Cast", "x", "x16", to=half),
        conv("x16", "a", "w"),
        node("Cast", "a", "y", to=onnx.TensorProto.FLOAT),
    ]
    saved_graph(folder / "half.onnx", nodes, [weight("w", 8, 8, 3, 3, kind=half)])
    refused(2, "build", "half.onnx", *SM86, "--precision", "fp32", says=["half.onnx is fp16"], hint="float32 file")


def test_the_engine_may_have_another_place_and_name(attn_export: Command, onnx_folder: Path) -> None:
    done = attn_export("build", "model.onnx", *SM86, "--precision", "fp16", "-o", "built on/monday ü.plan")
    assert done.returncode == 0, done.stderr
    assert names(onnx_folder) == {"model.onnx", "built on"}
    made = {"monday ü.plan", "monday ü.plan.json", "model.fp16.onnx"}
    assert names(onnx_folder / "built on") == made
    assert attn_export("inspect", "built on/monday ü.plan").returncode == 0


def test_a_jetson_gets_a_bundle_that_judges_by_the_file(attn_export: Command, onnx_folder: Path) -> None:
    done = attn_export("build", "model.onnx", "--gpu", "sm87", "--profile-batch", "2")
    assert done.returncode == 0, done.stderr
    assert names(onnx_folder) == {"model.onnx", "model.sm87.bundle.zip"}
    assert "on the device: attn-export build model.sm87.bundle.zip" in done.stdout
    assert attn_export("validate", "model.sm87.bundle.zip", "model.onnx").returncode == 0


@pytest.mark.parametrize("name", ["legacy.onnx", "raw.onnx"])
def test_files_of_pytorchs_exporters_are_built(attn_export: Command, folder: Path, files: Path, name: str) -> None:
    for path in files.glob(f"{name}*"):
        shutil.copy(path, folder)
    done = attn_export("build", name, *SM86)
    assert done.returncode == 0, done.stderr
    assert "layer1.0.attention" in done.stdout
    stem = name.removesuffix(".onnx")
    weights = record_of(folder, f"{stem}.engine")["onnx"]["weights_sha256"]
    outside = {path.name for path in files.glob(f"{name}.data")}
    assert set(weights) == outside


def test_weights_outside_of_the_file_can_become_float16(attn_export: Command, folder: Path, files: Path) -> None:
    for path in files.glob("raw.onnx*"):
        shutil.copy(path, folder)
    done = attn_export("build", "raw.onnx", *SM86, "--precision", "fp16")
    assert done.returncode == 0, done.stderr
    assert {"raw.fp16.onnx", "raw.fp16.engine"} <= names(folder)


def test_a_graph_without_attention_is_built(attn_export: Command, folder: Path) -> None:
    plain(folder / "plain.onnx")
    done = attn_export("build", "plain.onnx", *SM86)
    assert done.returncode == 0, done.stderr
    assert "Attention" not in done.stdout
    assert record_of(folder, "plain.engine")["cost"]["blocks"] == []
    assert attn_export("inspect", "plain.engine").returncode == 0


def test_tf32_and_the_workspace_are_recorded(attn_export: Command, folder: Path) -> None:
    plain(folder / "plain.onnx")
    done = attn_export("build", "plain.onnx", *SM86, "--precision", "tf32", "--workspace", "64")
    assert done.returncode == 0, done.stderr
    options = record_of(folder, "plain.tf32.engine")["options"]
    assert (options["tf32"], options["workspace_mib"]) == (True, 64)


# ---- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("nope.onnx", None, "nope.onnx can't be read: No such file"),
        ("empty.onnx", b"", "empty.onnx"),
        ("text.onnx", b"# a text file\n" * 9, "text.onnx"),
        ("nope.bundle.zip", None, "nope.bundle.zip"),
        ("text.zip", b"no zip", "text.zip"),
        ("model.pt", b"PK\x03\x04" + bytes(50), "model.pt"),
    ],
)
def test_what_is_no_graph_is_refused(
    refused: Command, folder: Path, name: str, content: bytes | None, says: str
) -> None:
    if content is not None:
        (folder / name).write_bytes(content)
    refused(3, "build", name, *SM86, says=[says])


def test_an_operator_that_tensorrt_lacks_is_named_with_its_module(refused: Command, folder: Path) -> None:
    odd = onnx.helper.make_node("Sparkle", ["a"], ["y"], name="n", domain="odd")
    odd.metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['', 'layer4', 'layer4.sparkle', 'n']")
    saved_graph(folder / "odd.onnx", [conv("x", "a"), odd], [weight("w", 8, 8, 3, 3)], domains=["odd"])
    done = refused(5, "build", "odd.onnx", *SM86, says=["can't parse odd.onnx", "Sparkle"], hint="operators")
    assert "layer4.sparkle" in done.stderr


@pytest.mark.parametrize("option", ["--timing-cache=cache", "--version-compatible", "--hardware-compatible"])
def test_options_that_only_the_classic_tensorrt_has(refused: Command, onnx_folder: Path, option: str) -> None:
    name = option.partition("=")[0]
    refused(2, "build", "model.onnx", *SM86, option, says=[name, "tensorrt-rtx"], hint="--backend tensorrt")


def test_a_backend_that_is_not_installed(refused: Command, onnx_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    refused(5, "build", "model.onnx", "--backend", "tensorrt", says=["tensorrt is not installed"], hint="pip install")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--precision", "fp32,fp16", "-o", "one.engine"], "-o names one engine"),
        (["--precision", "int4"], "--precision int4"),
        (["--precision", "int8"], "int8 needs calibration images"),
        (["--gpu", "sm87", "--backend", "openvino"], "--backend openvino"),
        (["--gpu", "RTX 9999"], "--gpu RTX 9999"),
        (["--profile-batch", "8,1,32"], "--profile-batch: 8, 1, 32"),
        (["--size", "32x32"], "--size asks for 32"),
        (["--workspace", "0"], "--workspace"),
        (["-o", "model.onnx"], "would overwrite model.onnx"),
        (["-o", "./model.onnx"], "would overwrite"),
        (["--precision", "fp16", "-o", "model.fp16.onnx"], "would overwrite model.fp16.onnx"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_options_are_refused(refused: Command, onnx_folder: Path, arguments: list[str], says: str) -> None:
    refused(2, "build", "model.onnx", *arguments, says=[says])


def test_weights_and_bundles_are_not_overwritten(
    attn_export: Command, refused: Command, onnx_folder: Path, files: Path
) -> None:
    for path in files.glob("raw.onnx*"):
        shutil.copy(path, onnx_folder)
    refused(2, "build", "raw.onnx", *SM86, "-o", "raw.onnx.data", says=["would overwrite raw.onnx.data"])
    assert attn_export("build", "model.onnx", "--gpu", "sm87").returncode == 0
    bundle = "model.sm87.bundle.zip"
    refused(2, "build", bundle, *SM86, "--backend", "tensorrt-rtx", "-o", bundle, says=[f"would overwrite {bundle}"])


@pytest.mark.usefixtures("wrong_half")
def test_a_change_to_float16_that_goes_wrong_leaves_nothing(refused: Command, onnx_folder: Path) -> None:
    refused(1, "build", "model.onnx", *SM86, "--precision", "fp16", says=["the float16 file doesn't compute"])


def test_mixed_kernels_are_an_error_or_recorded(
    attn_export: Command, refused: Command, onnx_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = (MixedKernel("k", ("n",), ("FLOAT16",), ("FLOAT",)),) * 2
    monkeypatch.setattr(engine_records, "mixed_kernels", lambda *_: mixed)
    refused(1, "build", "model.onnx", *SM86, says=["2 kernels compute in another type"], hint="--allow-mixed")
    done = attn_export("build", "model.onnx", *SM86, "--allow-mixed")
    assert done.returncode == 0, done.stderr
    assert "MIXED: 2 kernels" in done.stdout
    assert len(record_of(onnx_folder)["precision"]["mixed"]) == 2


@pytest.mark.parametrize("taken", ["model.fp16.engine", "model.fp16.engine.json", "model.fp16.onnx"])
def test_a_folder_in_a_results_place_leaves_what_was_there(refused: Command, onnx_folder: Path, taken: str) -> None:
    (onnx_folder / taken).mkdir()
    refused(6, "build", "model.onnx", *SM86, "--precision", "fp16", says=[taken, "can't be written"])


@pytest.mark.parametrize(
    "title",
    [
        "Changing the graph to fp16",
        "Comparing it with the float32 file",
        "Reading the graph",
        "Building the engine for sm86",
        "Counting the kernels without attention",
        "Packing the deployment bundle for sm87",
    ],
)
def test_an_interruption_leaves_what_was_there(
    attn_export: Command, onnx_folder: Path, contents: Contents, monkeypatch: pytest.MonkeyPatch, title: str
) -> None:
    (onnx_folder / "model.fp16.engine").write_bytes(b"older")
    before = contents()

    class Interrupting(NullProgress):
        def stage(self, title_now: str) -> Any:
            if title_now == title:
                raise KeyboardInterrupt
            return super().stage(title_now)

    from contextlib import nullcontext

    monkeypatch.setattr(build_command, "make_progress", lambda _: nullcontext(Interrupting()))
    done = attn_export("build", "model.onnx", "--gpu", "sm86,sm87", "--precision", "fp16")
    assert done.returncode == 130, done.stderr
    assert contents() == before
