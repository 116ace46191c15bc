"""The main command where engines and precisions are asked for, on a machine without a GPU."""

import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from attn_export.cli import run
from attn_export.exporter.artifacts import OnnxFile, Precision, Target
from attn_export.exporter.bundle.read import read_bundle
from attn_export.exporter.commands import export as export_command
from attn_export.exporter.engine import record as engine_records
from attn_export.exporter.network.axes import opened
from attn_export.exporter.network.batches import batches
from attn_export.exporter.precision import typed_file
from attn_export.exporter.precision.half import to_half
from attn_export.exporter.records.engine import MixedKernel
from attn_export.exporter.records.results import Made
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.system import gpus
from attn_export.exporter.system.files import sha256_of
from attn_export.exporter.system.progress import Advance, NullProgress
from attn_export.exporter.workflows import export as workflow
from attn_export.exporter.workflows.export_job import ExportJob
from attn_export.exporter.workflows.onnx_files import make_onnx
from attn_export.exporter.workflows.reference import reference_outputs
from attn_export.exporter.workflows.settings import ExportSettings

pytest.importorskip("tensorrt_rtx")

Finished = subprocess.CompletedProcess[str]
Command = Callable[..., Finished]
Contents = Callable[[], dict[str, bytes | None]]

SM86 = ("--engine", "--gpu", "sm86", "--no-bench")
BOTH = (Precision.FP32, Precision.FP16)
ENGINE = {"model.onnx", "model.engine", "model.engine.json", "model.report.json"}


def hide_gpus(patch: pytest.MonkeyPatch) -> None:
    """As if this machine had none."""
    patch.setattr(gpus, "found", lambda: ())


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    hide_gpus(monkeypatch)


# ---- what is shared, because it takes seconds ---------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    """A command that was run once, and is looked at by many tests."""

    folder: Path
    code: int
    out: str
    err: str

    def __getitem__(self, name: str) -> Path:
        return self.folder / name

    @property
    def record(self) -> dict[str, Any]:
        return dict(json.loads(self["model.report.json"].read_text(encoding="utf-8")))

    def artifact(self, name: str) -> dict[str, Any]:
        (found,) = [artifact for artifact in self.record["artifacts"] if artifact["path"] == name]
        return dict(found)


@dataclass(frozen=True)
class Computed:
    """What the expensive half of an export gives."""

    reference: Any
    file: OnnxFile


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Computed:
    from attn_export.exporter.checkpoint.load import load

    model = load(checkpoint)
    settings = ExportSettings(precisions=BOTH, target=Target.TENSORRT)
    images = batches(opened(model.inputs, settings.dynamic, settings.batch))
    reference = reference_outputs(model, images, BOTH, NullProgress())
    folder, threads = tmp_path_factory.mktemp("computed"), Settings(1)
    job = ExportJob(model, folder, "model", settings, threads, reference, None, NullProgress())
    return Computed(reference, make_onnx(job).file)


def start_from(computed: Computed, patch: pytest.MonkeyPatch) -> None:
    """The reference and the graph come from before; everything behind them is done."""

    def same_reference(*arguments: Any, **_: Any) -> Any:
        with arguments[-1].stage("Computing the reference in float64"):
            return computed.reference

    def same_graph(job: ExportJob) -> Any:
        path = job.folder / f"{job.stem}.onnx"
        with job.progress.stage("Capturing with PyTorch's exporter"):
            shutil.copy(computed.file.path, path)
        return Made(replace(computed.file, path=path), (), None)

    patch.setattr(workflow, "reference_outputs", same_reference)
    patch.setattr(workflow, "make_onnx", same_graph)


@pytest.fixture(scope="module")
def done_once(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Callable[..., Done]:
    def command(*arguments: str, shortcut: Computed | None = None) -> Done:
        folder = tmp_path_factory.mktemp("engines")
        shutil.copy(checkpoint, folder / "model.pt")
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            hide_gpus(patch)
            patch.chdir(folder)
            if shortcut is not None:
                start_from(shortcut, patch)
            code = run(["model.pt", *arguments])
        return Done(folder, code, out.getvalue(), err.getvalue())

    return command


@pytest.fixture(scope="module")
def plain(done_once: Callable[..., Done]) -> Done:
    """The command of the README."""
    return done_once("--onnx", "--engine", "--gpu", "sm86,sm89", "--seconds", "0.3")


@pytest.fixture(scope="module")
def both(done_once: Callable[..., Done], computed: Computed) -> Done:
    """Two precisions, and as one document."""
    return done_once("--engine", "--gpu", "sm86", "--precision", "fp32,fp16", "--no-bench", "--json", shortcut=computed)


@pytest.fixture
def quick(computed: Computed, monkeypatch: pytest.MonkeyPatch) -> None:
    start_from(computed, monkeypatch)


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever takes long is a defect here: what is wrong should be said before it."""

    def work(*_: Any) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr(workflow, "reference_outputs", work)
    monkeypatch.setattr(workflow, "make_onnx", work)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"model.pt"}


# ---- the command of the README ------------------------------------------------------------------------------------


def test_an_engine_for_gpus_that_are_not_here_is_built(plain: Done) -> None:
    assert plain.code == 0, plain.err
    assert names(plain.folder) == ENGINE
    assert all(plain[name].stat().st_size for name in ENGINE)


def test_the_table_says_what_attention_costs_and_that_the_engine_was_not_run(plain: Done) -> None:
    row = next(line for line in plain.out.splitlines() if line.startswith("model.engine "))
    cost = plain.artifact("model.engine")["cost"]
    added = cost["kernels"] - cost["kernels_without_attention"]
    assert row.split("  ")[0] == "model.engine"
    for words in ("sm86, sm89", str(cost["kernels"]), str(added), "float32, as the graph says", "not run: no GPU"):
        assert words in row
    assert "tensorrt-rtx" in plain.out
    assert "× eager" in plain.out, "the runtimes are timed all the same"


def test_progress_and_notes_say_who_builds(plain: Done) -> None:
    assert re.search(r"note: tensorrt-rtx [\d.]+ builds: it builds for GPUs by name", plain.err)


def test_every_hash_is_the_one_of_the_published_file(plain: Done) -> None:
    graph, engine = plain.artifact("model.onnx"), plain.artifact("model.engine")
    assert graph["sha256"] == sha256_of(plain["model.onnx"]) == engine["onnx"]["sha256"]
    assert engine["sha256"] == sha256_of(plain["model.engine"])
    assert engine["bytes"] == plain["model.engine"].stat().st_size
    assert engine["onnx"]["path"] == "model.onnx"


def test_the_report_has_the_engine_and_the_engine_a_record_of_its_own(plain: Done) -> None:
    assert plain.record["schema_version"] == 3
    assert [artifact["format"] for artifact in plain.record["artifacts"]] == ["onnx", "engine"]
    engine = plain.artifact("model.engine")
    own = json.loads(plain["model.engine.json"].read_text(encoding="utf-8"))
    assert own["schema_version"] == 3
    for fact in ("sha256", "gpus", "profile", "cost", "options", "backend", "validation", "not_run"):
        assert engine[fact] == own[fact], fact
    assert engine["kernels"] == len(own["kernels"]["kernels"]) == engine["cost"]["kernels"] > 0
    assert engine["types"] == own["precision"]
    assert engine["types"] | {"graph": None} == {"requested": "fp32", "graph": None, "kernels": ["FLOAT"], "mixed": []}
    assert (engine["gpus"], engine["not_run"], engine["validation"]) == (["sm86", "sm89"], "no GPU", None)
    assert engine["options"]["tf32"] is False
    assert len(engine["cost"]["blocks"]) == 3
    shapes = {"min": [1, 3, 16, 16], "opt": [1, 3, 16, 16], "max": [8, 3, 16, 16]}
    assert engine["profile"] == {"input": shapes}


def test_only_what_can_run_here_is_timed(plain: Done) -> None:
    assert [timing["runtime"] for timing in plain.record["latency"]["timings"]] == ["eager", "onnxruntime"]


def test_json_is_the_report(both: Done) -> None:
    assert both.code == 0, both.err
    assert json.loads(both.out) == both.record


# ---- precisions ---------------------------------------------------------------------------------------------------


def test_two_precisions_make_two_files_and_two_engines(both: Done) -> None:
    made = {f"model{suffix}{ending}" for suffix in ("", ".fp16") for ending in (".onnx", ".engine", ".engine.json")}
    assert names(both.folder) == made | {"model.report.json"}
    assert [a["path"] for a in both.record["artifacts"]] == [
        "model.onnx",
        "model.fp16.onnx",
        "model.engine",
        "model.fp16.engine",
    ]
    half = both.artifact("model.fp16.engine")
    assert half["onnx"]["sha256"] == sha256_of(both["model.fp16.onnx"])
    assert half["precision"] == "fp16"
    assert "FLOAT16" in half["types"]["kernels"]


def test_the_float16_file_is_float16_inside_and_float32_outside(both: Done) -> None:
    graph = onnx.load(both["model.fp16.onnx"]).graph
    for value in (*graph.input, *graph.output):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    weights = [kinds[n.input[1]] for n in graph.node if n.op_type == "Conv" and n.input[1] in kinds]
    assert weights.count(onnx.TensorProto.FLOAT16) > len(weights) / 2
    assert both["model.fp16.onnx"].stat().st_size < 0.7 * both["model.onnx"].stat().st_size


def test_the_float16_file_runs_and_gives_the_same_classes(both: Done) -> None:
    images = np.random.default_rng(3).standard_normal((32, 3, 16, 16), dtype=np.float32)
    answers = []
    for name in ("model.onnx", "model.fp16.onnx"):
        session = onnxruntime.InferenceSession(str(both[name]), providers=["CPUExecutionProvider"])
        answers.append(session.run(["output"], {"input": images})[0])
    sure = np.ptp(np.sort(answers[0])[:, -2:], axis=1) > 0.01  # where the two largest differ at all
    assert sure.sum() >= 16
    assert (answers[0].argmax(1) == answers[1].argmax(1))[sure].all()
    assert not (answers[0] == answers[1]).all()


def test_the_float16_file_is_judged_by_what_float16_does_to_pytorch(both: Done) -> None:
    whole, half = (both.artifact(f"model{suffix}.onnx")["validation"] for suffix in ("", ".fp16"))
    assert whole["agrees"]
    assert half["agrees"]
    assert len(half["comparisons"]) == len(whole["comparisons"])
    fine = {comparison["tensor"]: comparison["baseline"] for comparison in whole["comparisons"]}
    assert {comparison["tensor"] for comparison in half["comparisons"]} == fine.keys()
    assert all(comparison["baseline"] > 100 * fine[comparison["tensor"]] for comparison in half["comparisons"])
    told = {p.key: p.value for p in onnx.load(both["model.fp16.onnx"]).metadata_props}
    assert told["attn_export.precision"] == "fp16"
    assert json.loads(told["attn_export.validation"])["agrees"] is True


def test_what_stays_in_float32_is_named_with_its_reason(both: Done) -> None:
    kept = both.artifact("model.fp16.onnx")["kept_in_float32"]
    assert kept
    nodes = {node.name for node in onnx.load(both["model.fp16.onnx"]).graph.node}
    for entry in kept:
        assert entry["node"] in nodes
        assert entry["reason"]
        assert entry["op_type"]
    assert both.artifact("model.onnx")["kept_in_float32"] == []


def test_float16_alone_leaves_no_float32_file(
    quick: None, attn_export: Command, folder: Path, contents: Contents
) -> None:
    done = attn_export("model.pt", "--onnx", "--precision", "fp16", "--no-bench")
    assert done.returncode == 0, done.stderr
    assert names(folder) == {"model.fp16.onnx", "model.report.json"}
    (artifact,) = json.loads((folder / "model.report.json").read_text())["artifacts"]
    assert (artifact["precision"], artifact["validation"]["agrees"]) == ("float16", True)
    assert artifact["sha256"] == sha256_of(folder / "model.fp16.onnx")
    assert "float16" in done.stdout
    count = len(artifact["kept_in_float32"])
    assert f"float16 ({count} nodes kept in float32)" in done.stdout


def test_engine_alone_makes_the_onnx_file_too(quick: None, attn_export: Command, folder: Path) -> None:
    done = attn_export("model.pt", *SM86, "--precision", "fp16")
    assert done.returncode == 0, done.stderr
    assert names(folder) == {"model.fp16.onnx", "model.fp16.engine", "model.fp16.engine.json", "model.report.json"}


@pytest.mark.parametrize("precision", ["fp4", "half", "FP16", "fp32;fp16"])
def test_an_unknown_precision_is_refused(idle: None, refused: Command, precision: str) -> None:
    refused(2, "model.pt", "--onnx", "--precision", precision, says=["--precision"], hint="fp32, tf32, fp16, bf16")


def test_precisions_may_be_repeated(quick: None, attn_export: Command, folder: Path) -> None:
    done = attn_export("model.pt", "--onnx", "--precision", "fp32", "--precision", "fp32,fp32", "--no-bench")
    assert done.returncode == 0, done.stderr
    assert names(folder) == {"model.onnx", "model.report.json"}


def test_a_fault_in_the_change_to_float16_is_found(
    quick: None, refused: Command, monkeypatch: pytest.MonkeyPatch
) -> None:

    def faulty(model: ir.Model, largest: Any, kind: Any) -> Any:
        kept = to_half(model, largest, kind)
        value = next(node for node in model.graph if node.op_type == "Conv").inputs[1]
        assert value is not None
        assert value.const_value is not None
        value.const_value = ir.tensor(value.const_value.numpy() * np.float16(1.05), name=value.name)
        return kept

    monkeypatch.setattr(typed_file, "to_half", faulty)
    refused(
        1,
        "model.pt",
        *SM86,
        "--precision",
        "fp32,fp16",
        says=["the ONNX file doesn't compute what PyTorch computes", "PyTorch's own float16"],
        hint="No file was written",
    )


# ---- kernels of another type --------------------------------------------------------------------------------------


@pytest.fixture
def one_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = (MixedKernel("k", ("node_conv2d",), ("FLOAT16",), ("FLOAT",)),)
    monkeypatch.setattr(engine_records, "mixed_kernels", lambda *_: mixed)


def test_kernels_of_another_type_are_an_error(quick: None, one_mixed: None, refused: Command) -> None:
    refused(
        1,
        "model.pt",
        *SM86,
        says=["1 kernel computes in another type than the graph", "node_conv2d runs in FLOAT16"],
        hint="--allow-mixed",
    )


def test_kernels_of_another_type_are_recorded_where_they_are_allowed(
    quick: None, one_mixed: None, attn_export: Command, folder: Path
) -> None:
    done = attn_export("model.pt", *SM86, "--allow-mixed")
    assert done.returncode == 0, done.stderr
    assert names(folder) == ENGINE
    assert "MIXED: 1 kernel" in done.stdout
    engine = json.loads((folder / "model.report.json").read_text())["artifacts"][1]
    assert engine["types"]["mixed"][0]["nodes"] == ["node_conv2d"]


# ---- GPUs ---------------------------------------------------------------------------------------------------------


def engine_of(folder: Path, name: str = "model.engine") -> dict[str, Any]:
    return dict(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))


def test_gpus_may_be_products_lists_and_repetitions(quick: None, attn_export: Command, folder: Path) -> None:
    done = attn_export(
        "model.pt", "--engine", "--no-bench", "--gpu", "RTX A2000, rtx4090", "--gpu", "8.6", "--gpu", "sm_89"
    )
    assert done.returncode == 0, done.stderr
    assert engine_of(folder)["gpus"] == ["sm86", "sm89"]


def test_without_a_name_it_is_for_all(quick: None, attn_export: Command, folder: Path) -> None:
    done = attn_export("model.pt", "--engine", "--no-bench")
    assert done.returncode == 0, done.stderr
    assert engine_of(folder)["gpus"] == ["portable"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [("RTX 4900", "RTX 4090"), ("Radeon", "sm86 for compute capability 8.6"), ("sm86,ampere", "sm86 for compute")],
)
def test_an_unknown_gpu_gets_suggestions(idle: None, refused: Command, name: str, hint: str) -> None:
    refused(2, "model.pt", "--engine", "--gpu", name, says=["--gpu", name.split(",")[-1]], hint=hint)


@pytest.mark.parametrize("name", ["sm50", "sm999"])
def test_a_gpu_that_nothing_builds_for_is_refused(idle: None, refused: Command, name: str) -> None:
    refused(2, "model.pt", "--engine", "--gpu", name, says=["can't build for", name], hint="sm86")


@pytest.mark.parametrize("names", ["current", "sm86,current", "sm87,current"])
def test_the_current_gpu_has_to_be_there(idle: None, refused: Command, names: str) -> None:
    refused(5, "model.pt", "--engine", "--gpu", names, says=["--gpu current needs a GPU"], hint="--gpu sm86")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--gpu", "sm86"],
        ["--profile-batch", "4"],
        ["--size", "32x32"],
        ["--allow-mixed"],
        ["--keep-going"],
        ["--backend", "tensorrt-rtx"],
    ],
    ids=" ".join,
)
def test_options_of_engines_need_an_engine(idle: None, refused: Command, arguments: list[str]) -> None:
    refused(2, "model.pt", "--onnx", *arguments, says=[arguments[0]], hint="Add --engine")


def test_a_jetson_gets_a_bundle(quick: None, attn_export: Command, folder: Path) -> None:
    done = attn_export("model.pt", "--engine", "--gpu", "Jetson Orin Nano", "--profile-batch", "1,2,4", "--no-bench")
    assert done.returncode == 0, done.stderr
    assert names(folder) == {"model.onnx", "model.report.json", "model.sm87.bundle.zip"}
    assert "to be built on the device: attn-export build model.sm87.bundle.zip" in done.stdout
    bundle = read_bundle(folder / "model.sm87.bundle.zip")
    assert bundle.manifest.files["model.onnx"].sha256 == sha256_of(folder / "model.onnx")
    assert bundle.manifest.profile["input"].max == (4, 3, 16, 16)
    listed = json.loads((folder / "model.report.json").read_text())["artifacts"][1]
    assert listed == {
        "path": "model.sm87.bundle.zip",
        "format": "bundle",
        "sha256": sha256_of(folder / "model.sm87.bundle.zip"),
        "bytes": (folder / "model.sm87.bundle.zip").stat().st_size,
    }


def test_a_jetson_among_others_gets_a_bundle_and_they_an_engine(
    quick: None, attn_export: Command, folder: Path
) -> None:
    done = attn_export("model.pt", "--engine", "--gpu", "sm86,sm87", "--no-bench", "--precision", "fp32,fp16")
    assert done.returncode == 0, done.stderr
    made = {f"model{s}{e}" for s in ("", ".fp16") for e in (".onnx", ".engine", ".engine.json", ".sm87.bundle.zip")}
    assert names(folder) == made | {"model.report.json"}
    assert engine_of(folder)["gpus"] == ["sm86"]
    assert read_bundle(folder / "model.fp16.sm87.bundle.zip").manifest.precision is Precision.FP16


def test_a_gpu_that_can_not_run_it_is_named(quick: None, refused: Command) -> None:
    refused(
        5,
        "model.pt",
        "--engine",
        "--no-bench",
        "--gpu",
        "sm75,sm86",
        says=["no engine for sm75", "FP32 GEMM"],
        hint="--keep-going builds for sm86 alone",
    )


def test_the_others_are_built_for_where_that_was_asked(quick: None, attn_export: Command, folder: Path) -> None:
    done = attn_export("model.pt", "--engine", "--no-bench", "--gpu", "sm75,sm86", "--keep-going", "--quiet")
    assert done.returncode == 0, done.stderr
    assert engine_of(folder)["gpus"] == ["sm86"]
    engine = json.loads((folder / "model.report.json").read_text())["artifacts"][1]
    assert list(engine["failed"]) == ["sm75"]
    assert "FP32 GEMM" in engine["failed"]["sm75"]
    assert "model.engine is not for sm75: " in done.stdout, "who reads only the result learns it too"


# ---- sizes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "sizes"), [("1,8,32", [1, 8, 32]), ("4", [4, 4, 4])])
def test_batches_are_those_of_the_engine(
    quick: None, attn_export: Command, folder: Path, words: str, sizes: list[int]
) -> None:
    done = attn_export("model.pt", *SM86, "--profile-batch", words)
    assert done.returncode == 0, done.stderr
    assert [shape[0] for shape in engine_of(folder)["profile"]["input"].values()] == sizes


@pytest.mark.parametrize(
    ("option", "words", "says"),
    [
        ("--profile-batch", "1,8", "--profile-batch has 2 sizes"),
        ("--profile-batch", "1,2,3,4", "--profile-batch has 4 sizes"),
        ("--profile-batch", "8,1,32", "8, 1, 32 are not min, opt and max"),
        ("--profile-batch", "0", "--profile-batch 0 is not a size"),
        ("--profile-batch", "-1", "--profile-batch -1 is not a size"),
        ("--profile-batch", "abc", "--profile-batch abc is not a size"),
        ("--profile-batch", "99999", "--profile-batch 99999 is not a size"),
        ("--size", "224", "--size 224 is not a size"),
        ("--size", "0x32", "--size 0 is not a size"),
        ("--size", "32x32x3", "--size 32x32x3 is not a size"),
        ("--size", "64x64,32x32,64x64", "--size: 64, 32, 64 are not min, opt and max"),
        ("--size", "32x32,64x64", "--size has 2 sizes"),
    ],
)
def test_sizes_that_are_none_are_refused(idle: None, refused: Command, option: str, words: str, says: str) -> None:
    refused(2, "model.pt", "--engine", option, words, says=[says])


@pytest.mark.parametrize(
    ("arguments", "says", "hint"),
    [
        (["--size", "32x32"], "--size asks for 32, but axis 2 of the input 'input' is static (16)", "--dynamic"),
        (["--static", "--profile-batch", "4"], "--profile-batch asks for 4, but axis 0", "Leave --profile-batch out"),
        (["--dynamic", "batch,height,width"], "axis 2 of the input 'input' is dynamic (height)", "--size 224x224"),
        (["--dynamic", "width"], "axis 3 of the input 'input' is dynamic (width)", "--size 224x224"),
        (
            ["--dynamic", "batch,height,width", "--gpu", "sm87"],
            "axis 2 of the input 'input' is dynamic (height)",
            "--size 224x224",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_sizes_that_do_not_fit_the_axes_are_refused_before_the_work(
    idle: None, refused: Command, arguments: list[str], says: str, hint: str
) -> None:
    refused(2, "model.pt", "--engine", *arguments, says=[says], hint=hint)


def test_a_size_that_is_the_fixed_one_is_taken(quick: None, attn_export: Command, folder: Path) -> None:
    done = attn_export("model.pt", *SM86, "--size", "16x16")
    assert done.returncode == 0, done.stderr


def test_open_images_get_the_sizes_that_were_asked(attn_export: Command, folder: Path) -> None:
    sizes = ("--dynamic", "batch,height,width", "--size", "16x16,32x24,48x48", "--profile-batch", "1,2,2")
    done = attn_export("model.pt", *SM86, *sizes)
    assert done.returncode == 0, done.stderr
    assert engine_of(folder)["profile"]["input"] == {
        "min": [1, 3, 16, 16],
        "opt": [2, 3, 32, 24],
        "max": [2, 3, 48, 48],
    }


# ---- backends and options -----------------------------------------------------------------------------------------


def test_a_backend_that_is_not_installed_comes_with_the_command(
    idle: None, refused: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    refused(5, "model.pt", "--engine", "--backend", "tensorrt", says=["tensorrt is not installed"], hint="pip install")


@pytest.mark.parametrize("gpu", ["sm86", "sm87"])
def test_an_unknown_backend_is_refused(idle: None, refused: Command, gpu: str) -> None:
    refused(
        2,
        "model.pt",
        "--engine",
        "--gpu",
        gpu,
        "--backend",
        "openvino",
        says=["--backend openvino is unknown"],
        hint="auto, tensorrt, tensorrt-rtx",
    )


def test_the_backend_may_be_named_and_tf32_is_recorded(quick: None, attn_export: Command, folder: Path) -> None:
    done = attn_export("model.pt", *SM86, "--backend", "tensorrt-rtx", "--precision", "tf32")
    assert done.returncode == 0, done.stderr
    record = engine_of(folder, "model.tf32.engine")
    assert (record["backend"]["name"], record["backend"]["why"]) == ("tensorrt-rtx", "as requested")
    assert record["options"]["tf32"] is True
    assert "builds:" not in done.stderr, "nothing was chosen"


def test_cuda_has_to_be_there(idle: None, refused: Command) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is CUDA here")
    refused(5, "model.pt", "--onnx", "--device", "cuda", says=["CUDA"])


@pytest.mark.parametrize("name", ["tpu", "cuda:0", ""])
def test_an_unknown_device_is_refused(idle: None, refused: Command, name: str) -> None:
    refused(2, "model.pt", "--onnx", "--device", name, says=["is unknown"], hint="cpu, cuda")


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_a_run_that_is_asked_for_by_name_needs_a_gpu(idle: None, refused: Command, name: str) -> None:
    asked = ("--engine", "--gpu", "sm86", "--runtimes", f"eager,{name}")
    refused(5, "model.pt", *asked, says=[name, "no GPU"], hint="built all the same")
    refused(2, "model.pt", "--onnx", "--runtimes", name, says=["none is made"], hint="--engine")


# ---- what stays when it fails -------------------------------------------------------------------------------------

TWO_WITH_BUNDLE = ("--engine", "--gpu", "sm86,sm87", "--precision", "fp32,fp16", "--no-bench")
STAGES = (
    "Reading the checkpoint",
    "Computing the reference in float64",
    "Capturing with PyTorch's exporter",
    "Comparing ONNX Runtime with the reference",
    "Changing the graph to fp16",
    "Comparing ONNX Runtime with the reference in fp16",
    "Reading the graphs",
    *(
        "Building the engine for sm86",
        "Counting the kernels without attention",
        "Packing the deployment bundle for sm87",
    )
    * 2,
)


class Listener:
    """Hears which stages there are, and interrupts when one of them begins, goes on or ends.

    TensorRT tells of its steps in a thread of its own, where Ctrl-C is never raised: there it is a signal.
    """

    def __init__(self, stop_at: int = -1, moment: str = "") -> None:
        self.stop_at, self.moment = stop_at, moment
        self.titles: list[str] = []

    @contextmanager
    def stage(self, title: str) -> Iterator[Advance]:
        index = len(self.titles)
        self.titles.append(title)

        def reached(moment: str) -> bool:
            return (index, moment) == (self.stop_at, self.moment)

        def advance(_: float) -> None:
            if reached("goes on"):
                self.moment = "was reached"
                os.kill(os.getpid(), signal.SIGINT)

        if reached("begins"):
            raise KeyboardInterrupt
        yield advance
        if reached("ends"):
            raise KeyboardInterrupt

    def note(self, message: str) -> None:
        pass


def heard_by(make_progress: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def hear(_: bool) -> Iterator[Listener]:
        yield make_progress

    monkeypatch.setattr(export_command, "make_progress", hear)


OLDER = ("model.onnx", "model.fp16.onnx", "model.engine", "model.engine.json", "model.sm87.bundle.zip", "notes.txt")


@pytest.fixture
def older(folder: Path) -> dict[str, bytes]:
    """What an earlier export left."""
    for name in OLDER:
        (folder / name).write_bytes(f"older {name}".encode())
    return {name: (folder / name).read_bytes() for name in OLDER}


def test_these_are_the_stages_and_older_results_are_replaced(
    quick: None, attn_export: Command, folder: Path, older: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_progress = Listener()
    heard_by(make_progress, monkeypatch)
    done = attn_export("model.pt", *TWO_WITH_BUNDLE)
    assert done.returncode == 0, done.stderr
    assert tuple(make_progress.titles) == STAGES, "a new stage belongs into STAGES, so that interrupting it is tested"
    assert (folder / "notes.txt").read_bytes() == older.pop("notes.txt")
    assert all((folder / name).read_bytes() != content for name, content in older.items())
    assert engine_of(folder)["sha256"] == sha256_of(folder / "model.engine")


@pytest.mark.parametrize(
    ("index", "moment"),
    [(index, "begins") for index in (4, 5, 6, 7, 8, 9, 12)]
    + [(len(STAGES) - 1, "ends"), (5, "goes on"), (7, "goes on"), (8, "goes on")],
    ids=lambda value: STAGES[value].replace(" ", "_") if isinstance(value, int) else value,
)
def test_an_interruption_leaves_what_was_there(
    quick: None,
    attn_export: Command,
    contents: Contents,
    older: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    index: int,
    moment: str,
) -> None:
    before = contents()
    heard_by(Listener(index, moment), monkeypatch)
    done = attn_export("model.pt", *TWO_WITH_BUNDLE)
    assert done.returncode == 130, done.stderr
    assert "interrupted" in done.stderr
    assert contents() == before


@pytest.mark.parametrize("taken", ["model.onnx", "model.engine.json", "model.sm87.bundle.zip", "model.report.json"])
def test_a_folder_in_a_results_place_leaves_what_was_there(
    quick: None, refused: Command, folder: Path, older: dict[str, bytes], taken: str
) -> None:
    (folder / taken).unlink(missing_ok=True)
    (folder / taken).mkdir()
    refused(
        6,
        "model.pt",
        "--engine",
        "--gpu",
        "sm86,sm87",
        "--no-bench",
        says=[f"{taken} can't be written"],
        hint="another folder",
    )


def test_an_output_folder_that_is_a_file_is_refused(idle: None, refused: Command, folder: Path) -> None:
    (folder / "out").write_bytes(b"a file")
    refused(6, "model.pt", *SM86, "--out", "out", says=["out can't be written"], hint="another folder")


@pytest.mark.parametrize("name", ["my.model.v2.pt", "trained on monday.pt", "Grüße-模型.pt", "-.pt", "model"])
def test_stems_may_be_anything(quick: None, attn_export: Command, folder: Path, name: str) -> None:
    (folder / "model.pt").rename(folder / name)
    place = folder / "out put"
    done = attn_export(f"./{name}", "--engine", "--gpu", "sm86,sm87", "--no-bench", "--out", str(place))
    assert done.returncode == 0, done.stderr
    stem = name.removesuffix(".pt")
    made = {f"{stem}{ending}" for ending in (".onnx", ".engine", ".engine.json", ".report.json", ".sm87.bundle.zip")}
    assert {path.name for path in place.iterdir()} == made
    assert read_bundle(place / f"{stem}.sm87.bundle.zip").manifest.architecture == "sm87"
    assert attn_export("inspect", str(place / f"{stem}.engine")).returncode == 0


# ---- what an engine says of itself --------------------------------------------------------------------------------


def test_inspect_lists_the_blocks_and_what_attention_adds(plain: Done, attn_export: Command) -> None:
    done = attn_export("inspect", str(plain["model.engine"]))
    assert done.returncode == 0, done.stderr
    cost = plain.artifact("model.engine")["cost"]
    for block in cost["blocks"]:
        row = next(line for line in done.stdout.splitlines() if line.startswith(block["module_path"]))
        assert row.split()[:3] == [block["module_path"], "CBAM", str(block["kernels"])]
    added = cost["kernels"] - cost["kernels_without_attention"]
    assert f"attention adds {added} kernels: {cost['kernels']} instead of" in done.stdout
    for words in ("sm86, sm89", "tensorrt-rtx", "1×3×16×16 to 8×3×16×16", "not run: no GPU", "float32, as the graph"):
        assert words in done.stdout


def test_inspect_gives_the_record_as_json(plain: Done, attn_export: Command) -> None:
    done = attn_export("inspect", str(plain["model.engine"]), "--json")
    own = json.loads(plain["model.engine.json"].read_text(encoding="utf-8"))
    assert json.loads(done.stdout) == {"path": str(plain["model.engine"]), "engine": own, "schema_version": 3}


@pytest.fixture
def copied(plain: Done, folder: Path) -> Path:
    """An engine with its record, to be changed at will."""
    for name in ("model.engine", "model.engine.json"):
        shutil.copy(plain[name], folder / name)
    return folder / "model.engine"


def test_an_engine_without_its_record_says_nothing(refused: Command, copied: Path) -> None:
    copied.with_name("model.engine.json").unlink()
    done = refused(3, "inspect", "model.engine", says=["model.engine has no record"], hint="model.engine.json")
    assert "--trust" not in done.stderr, "inspect has no such option"


def test_a_changed_engine_is_noticed(refused: Command, copied: Path) -> None:
    content = bytearray(copied.read_bytes())
    content[len(content) // 2] ^= 1
    copied.write_bytes(content)
    done = refused(3, "inspect", "model.engine", says=["model.engine was changed after its build"])
    assert "--trust" not in done.stderr


def test_a_truncated_or_empty_engine_is_noticed(refused: Command, copied: Path) -> None:
    copied.write_bytes(copied.read_bytes()[:-1])
    refused(3, "inspect", "model.engine", says=["truncated"])
    copied.write_bytes(b"")
    refused(3, "inspect", "model.engine", says=["is empty"])


@pytest.mark.parametrize("name", ["nope.engine", "nope.plan"])
def test_an_engine_that_is_not_there(refused: Command, name: str) -> None:
    refused(3, "inspect", name, says=[name, "No such file"])


@pytest.mark.parametrize(
    "change",
    [
        {"cost": None},
        {"cost": {"kernels": 3}},
        {"build": {}},
        {"profile": {"input": {}}},
        {"kernels": []},
        {"precision": {}},
        {"failed": ["sm75"]},
        {"onnx": {"path": "a", "sha256": 5}},
    ],
    ids=lambda change: str(change),
)
def test_a_damaged_record_is_no_defect_of_ours(refused: Command, copied: Path, change: dict[str, Any]) -> None:
    path = copied.with_name("model.engine.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    refused(3, "inspect", "model.engine", says=["model.engine.json"], hint="Build the engine again")


# ---- bundles ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle(done_once: Callable[..., Done], computed: Computed) -> Done:
    return done_once("--engine", "--gpu", "sm87", "--profile-batch", "1,2,4", "--no-bench", shortcut=computed)


def test_the_onnx_file_agrees_with_its_bundle(bundle: Done, attn_export: Command) -> None:
    done = attn_export("validate", str(bundle["model.sm87.bundle.zip"]), str(bundle["model.onnx"]))
    assert done.returncode == 0, done.stderr
    assert "agrees" in done.stdout
    assert "DISAGREES" not in done.stdout
    document = json.loads(
        attn_export("validate", str(bundle["model.sm87.bundle.zip"]), str(bundle["model.onnx"]), "--json").stdout
    )
    assert document["validation"]["agrees"] is True
    assert document["bundle"]["architecture"] == "sm87"
    assert [comparison["tensor"] for comparison in document["validation"]["comparisons"]]


def test_a_graph_of_other_weights_does_not_agree_with_the_bundle(
    bundle: Done, attn_export: Command, folder: Path
) -> None:
    model = onnx.load(bundle["model.onnx"])
    kernel = next(n for n in model.graph.node if n.op_type == "Conv").input[1]
    (tensor,) = [t for t in model.graph.initializer if t.name == kernel]
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * np.float32(1.01), kernel))
    onnx.save(model, folder / "other.onnx")
    done = attn_export("validate", str(bundle["model.sm87.bundle.zip"]), "other.onnx")
    assert done.returncode == 1
    assert "DISAGREES" in done.stdout
    assert "doesn't compute the golden outputs" in done.stderr
    done = attn_export("validate", str(bundle["model.sm87.bundle.zip"]), "other.onnx", "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert (document["validation"]["agrees"], document["error"]["exit_code"]) == (False, 1)


def test_an_engine_is_not_validated_without_a_gpu(bundle: Done, plain: Done, refused: Command) -> None:
    refused(
        5,
        "validate",
        str(bundle["model.sm87.bundle.zip"]),
        str(plain["model.engine"]),
        says=["can't be run", "no GPU"],
        hint="on the device",
    )


def test_what_is_no_bundle_is_refused(bundle: Done, refused: Command) -> None:
    refused(3, "validate", "nope.bundle.zip", str(bundle["model.onnx"]), says=["nope.bundle.zip"])
    refused(3, "validate", str(bundle["model.sm87.bundle.zip"]), "nope.engine", says=["nope.engine"])


def test_a_bundle_is_built_on_the_device(bundle: Done, refused: Command) -> None:
    refused(
        5,
        "build",
        str(bundle["model.sm87.bundle.zip"]),
        says=["sm87", "no GPU here"],
        hint="Copy the bundle to the device",
    )


def test_a_bundle_is_built_here_where_that_is_asked(bundle: Done, attn_export: Command, folder: Path) -> None:
    path = str(bundle["model.sm87.bundle.zip"])
    done = attn_export("build", path, "--backend", "tensorrt-rtx", "--gpu", "sm86", "-o", "here.engine", "--json")
    assert done.returncode == 0, done.stderr
    assert "the bundle is for sm87, and the engine is for sm86" in done.stderr
    assert names(folder) == {"here.engine", "here.engine.json"}
    record = engine_of(folder, "here.engine")
    assert record["bundle"] == {
        "path": "model.sm87.bundle.zip",
        "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest(),
    }
    assert record["onnx"]["sha256"] == sha256_of(bundle["model.onnx"])
    (engine,) = json.loads(done.stdout)["engines"]
    assert (engine["path"], engine["record"]["gpus"]) == ("here.engine", ["sm86"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--precision", "fp16"], "bundle.zip is fp32"),
        (["--profile-batch", "4", "--gpu", "sm86"], "sets the shapes"),
        (["--precision", "tf32"], "bundle.zip is fp32"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_a_bundle_says_is_not_said_again(bundle: Done, refused: Command, arguments: list[str], says: str) -> None:
    refused(2, "build", str(bundle["model.sm87.bundle.zip"]), *arguments, says=[says])
