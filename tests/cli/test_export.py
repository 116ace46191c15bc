"""The main command where everything is in order: what it writes, what it prints, and what it leaves alone."""

import hashlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from attn_export.cli import run
from attn_export.exporter.artifacts import LoadedModel
from attn_export.exporter.errors import UsageError
from attn_export.exporter.workflows import export as workflow
from attn_export.exporter.workflows.settings import ExportSettings

Finished = subprocess.CompletedProcess[str]
Command = Callable[..., Finished]
Contents = Callable[[], dict[str, bytes | None]]

RESULTS = {"model.onnx", "model.report.json"}


def dimensions(path: Path | str) -> list[int | str]:
    """Of the input: a number where it is fixed, a name where it is open."""
    (value,) = onnx.load(path).graph.input
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


@dataclass(frozen=True)
class Asked:
    """What the command would have the library do."""

    model: LoadedModel
    out: Path
    stem: str
    settings: ExportSettings


def asked_by(*arguments: str) -> Asked:
    """Parse and load, and stop there."""
    asked: list[Asked] = []

    def stop(model: LoadedModel, out: Path, stem: str, settings: ExportSettings, progress: Any) -> Any:
        asked.append(Asked(model, out, stem, settings))
        raise UsageError("far enough")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow, "export_loaded", stop)
        run(arguments)
    (once,) = asked
    return once


def settings_of(*arguments: str) -> ExportSettings:
    return asked_by("model.pt", "--onnx", *arguments).settings


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> tuple[Path, str]:
    """The folder of one plain export, which is looked at from several sides, and what was printed."""
    place = tmp_path_factory.mktemp("exported")
    shutil.copy(checkpoint, place / "model.pt")
    with redirect_stdout(io.StringIO()) as printed, redirect_stderr(io.StringIO()) as told:
        code = run([str(place / "model.pt"), "--onnx", "--no-bench"])
    assert code == 0, told.getvalue()
    return place, printed.getvalue()


# Spellings of the same.


@pytest.mark.parametrize(
    "arguments",
    [
        ["model.pt", "--onnx"],
        ["--onnx", "model.pt"],
        ["export", "model.pt", "--onnx"],
        ["export", "--onnx", "model.pt"],
        ["--quiet", "export", "model.pt", "--onnx"],
        ["--quiet", "--onnx", "model.pt"],
        ["./model.pt", "--onnx"],
    ],
    ids=" ".join,
)
def test_the_main_command_needs_no_name_and_takes_options_on_either_side(
    attn_export: Command, folder: Path, arguments: list[str]
) -> None:
    asked = asked_by(*arguments, "--opset", "21")
    assert asked.model.path == Path("model.pt")
    assert (asked.out, asked.stem) == (Path(), "model")
    assert replace(asked.settings, command=None) == ExportSettings(opset=21)
    assert asked.settings.command == ("attn-export", *arguments, "--opset", "21")


@pytest.mark.parametrize(
    ("arguments", "axes"),
    [
        ([], ("batch",)),
        (["--dynamic", "batch"], ("batch",)),
        (["--dynamic", "batch,height,width"], ("batch", "height", "width")),
        (["--dynamic", "batch", "--dynamic", "height", "--dynamic", "width"], ("batch", "height", "width")),
        (["--dynamic", "batch,height", "--dynamic=width"], ("batch", "height", "width")),
        (["--dynamic", " batch , height "], ("batch", "height")),
        (["--static"], ()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_open_axes_are_comma_lists_or_repetition(
    attn_export: Command, arguments: list[str], axes: tuple[str, ...]
) -> None:
    assert settings_of(*arguments).dynamic == axes


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], ("eager", "onnxruntime")),
        (["--runtimes", "onnxruntime"], ("onnxruntime",)),
        (["--runtimes", "onnxruntime,eager"], ("onnxruntime", "eager")),
        (["--runtimes", "compile", "--runtimes", "eager"], ("compile", "eager")),
        (["--runtimes", "eager,eager", "--runtimes", "eager"], ("eager",)),
        (["--no-bench"], ()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_runtimes_are_comma_lists_or_repetition(
    attn_export: Command, arguments: list[str], names: tuple[str, ...]
) -> None:
    assert settings_of(*arguments).runtimes == names


@pytest.mark.parametrize("text", ["4x3x16x16", "4X3X16X16"])
def test_the_input_says_the_batch_that_is_timed(attn_export: Command, text: str) -> None:
    assert settings_of("--input", text).batch == 4


# What is written.


def test_results_stand_beside_the_checkpoint_and_not_where_the_command_runs(
    attn_export: Command, folder: Path, contents: Contents
) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "model.pt").rename(folder / "elsewhere" / "model.pt")
    done = attn_export("elsewhere/model.pt", "--onnx", "--no-bench")
    assert done.returncode == 0, done.stderr
    assert set(contents()) == {"elsewhere", "elsewhere/model.pt", "elsewhere/model.onnx", "elsewhere/model.report.json"}
    assert "elsewhere/model.onnx" in done.stdout


def test_out_is_created_and_takes_all_results(attn_export: Command, folder: Path, contents: Contents) -> None:
    done = attn_export("model.pt", "--onnx", "--no-bench", "--out", "a/new/place")
    assert done.returncode == 0, done.stderr
    assert set(contents()) == {"model.pt", "a", "a/new", "a/new/place"} | {f"a/new/place/{name}" for name in RESULTS}


def test_nothing_else_in_the_folder_is_touched_and_old_results_are_replaced(
    attn_export: Command, folder: Path, contents: Contents
) -> None:
    for name in ("notes.txt", "other.onnx", ".hidden", "model.onnx", "model.report.json"):
        (folder / name).write_text("as it was")
    before = contents()
    assert attn_export("model.pt", "--onnx", "--no-bench").returncode == 0
    after = contents()
    assert {name for name in after if after[name] != before.get(name)} == RESULTS
    assert set(after) == set(before)


@pytest.mark.parametrize(
    ("checkpoint_name", "stem"),
    [("my.model.v2.pt", "my.model.v2"), ("best weights.pth", "best weights"), ("größe[best].pt", "größe[best]")],
)
def test_the_stem_of_the_results_is_the_checkpoints(
    attn_export: Command, folder: Path, checkpoint_name: str, stem: str
) -> None:
    (folder / "model.pt").rename(folder / checkpoint_name)
    done = attn_export(checkpoint_name, "--onnx", "--no-bench")
    assert done.returncode == 0, done.stderr
    assert {p.name for p in folder.iterdir()} == {checkpoint_name, f"{stem}.onnx", f"{stem}.report.json"}
    assert f"{stem}.onnx" in done.stdout


def test_the_file_computes_what_the_network_computes(exported: tuple[Path, str], network: torch.nn.Module) -> None:
    """The command says so itself; this asks onnxruntime without its help."""
    images = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    session = onnxruntime.InferenceSession(exported[0] / "model.onnx", providers=["CPUExecutionProvider"])
    (values,) = session.run(None, {"input": images.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(values, network(images).numpy(), rtol=1e-4, atol=1e-5)


def test_one_export_leaves_two_files_and_the_checkpoint_as_it_was(exported: tuple[Path, str], checkpoint: Path) -> None:
    assert {p.name for p in exported[0].iterdir()} == {"model.pt"} | RESULTS
    assert (exported[0] / "model.pt").read_bytes() == checkpoint.read_bytes()


def test_the_file_says_where_it_comes_from(exported: tuple[Path, str]) -> None:
    model = onnx.load(exported[0] / "model.onnx")
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert all(key.startswith("attn_export.") for key in said)
    assert len(said) == len(model.metadata_props), "no key stands there twice"
    assert said["attn_export.source_sha256"] == hashlib.sha256((exported[0] / "model.pt").read_bytes()).hexdigest()
    architecture = json.loads(said["attn_export.architecture"])
    assert (architecture["backbone"], architecture["attention"]) == ("resnet8", "cbam")
    assert json.loads(said["attn_export.class_names"]) == ["circle", "square", "triangle"]
    assert json.loads(said["attn_export.normalization"]) == {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.1]}
    assert {"attn-export", "torch", "onnx", "onnxruntime"} <= set(json.loads(said["attn_export.versions"]))
    validation = json.loads(said["attn_export.validation"])
    assert validation["agrees"] is True
    assert validation["ratio"] > 0
    assert model.producer_name == "attn-export"


def test_the_file_does_not_say_on_whose_machine_it_was_made(exported: tuple[Path, str]) -> None:
    content = (exported[0] / "model.onnx").read_bytes()
    for place in (str(exported[0]), str(Path.home()) + "/", "site-packages", ".attn-export-"):
        assert place.encode() not in content


def test_the_axes_are_called_by_their_names(attn_export: Command, folder: Path) -> None:
    done = attn_export("model.pt", "--onnx", "--no-bench", "--dynamic", "batch,height,width")
    assert done.returncode == 0, done.stderr
    assert dimensions("model.onnx") == ["batch", 3, "height", "width"]
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 16, 16), (3, 3, 24, 20)):
        (logits,) = session.run(None, {"input": np.zeros(shape, np.float32)})
        assert logits.shape == (shape[0], 3)


def test_only_the_batch_is_open_by_default(exported: tuple[Path, str]) -> None:
    assert dimensions(exported[0] / "model.onnx") == ["batch", 3, 16, 16]


@pytest.mark.parametrize(("arguments", "shape"), [([], [1, 3, 16, 16]), (["--input", "2x3x20x12"], [2, 3, 20, 12])])
def test_static_leaves_no_axis_open(
    attn_export: Command, folder: Path, arguments: list[str], shape: list[int | str]
) -> None:
    done = attn_export("model.pt", "--onnx", "--no-bench", "--static", *arguments)
    assert done.returncode == 0, done.stderr
    assert dimensions("model.onnx") == shape


def test_the_input_replaces_what_the_checkpoint_says(attn_export: Command, folder: Path) -> None:
    done = attn_export("model.pt", "--onnx", "--no-bench", "--input", "1x3x24x12")
    assert done.returncode == 0, done.stderr
    assert dimensions("model.onnx") == ["batch", 3, 24, 12]


@pytest.mark.parametrize("opset", [18, pytest.param(21, marks=pytest.mark.full)])
def test_the_opset_is_the_one_that_was_asked(attn_export: Command, folder: Path, opset: int) -> None:
    done = attn_export("model.pt", "--onnx", "--no-bench", "--opset", str(opset))
    assert done.returncode == 0, done.stderr
    assert {o.domain: o.version for o in onnx.load("model.onnx").opset_import} == {"": opset}
    assert f"opset {opset}" in done.stdout


# What is printed.


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stage says a line, however short it was."""
    monkeypatch.setattr("attn_export.exporter.report.live.WORTH_SAYING_SECONDS", 0.0)


@pytest.mark.usefixtures("told")
def test_the_tables_hold_a_verdict_and_both_runtimes(attn_export: Command, folder: Path) -> None:
    done = attn_export("model.pt", "--onnx", "--threads", "1")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any("gates" in line and "agrees" in line for line in lines)
    assert any("output" in line and "agrees" in line for line in lines)
    for runtime in ("eager", "onnxruntime"):
        (row,) = [line for line in lines if line.startswith(runtime)]
        cells = row.replace(" to ", " ").split()
        median, low, high, p90, p99, worst = map(float, cells[1 if cells[1][0].isdigit() else 2 :][:6])
        assert low <= median <= high
        assert 0 < median <= p90 <= p99 <= worst
    assert "threads: 1" in done.stdout
    assert "DISAGREES" not in done.stdout
    record = json.loads(Path("model.report.json").read_text())
    assert record["latency"]["threads"] == 1
    assert [t["runtime"] for t in record["latency"]["timings"]] == ["eager", "onnxruntime"]
    assert [t["batch"] for t in record["latency"]["timings"]] == [1, 1]
    for stage in ("Capturing", "Cleaning", "reference", "Comparing", "Opening eager", "Opening onnxruntime", "Timing"):
        assert stage in done.stderr
        assert stage not in done.stdout


def test_without_bench_no_latency_is_claimed(exported: tuple[Path, str]) -> None:
    place, printed = exported
    assert "agrees" in printed
    assert "Latency" not in printed
    assert "eager" not in printed
    assert json.loads((place / "model.report.json").read_text())["latency"]["timings"] == []


def test_json_is_one_document_on_standard_output_and_the_same_as_the_report(shell: Command, folder: Path) -> None:
    """In a process of its own, where nothing that a library prints can hide."""
    done = shell("model.pt", "--onnx", "--json", "--threads", "1", "--seconds", "0.3")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["schema_version"] == 3
    assert record == json.loads(Path("model.report.json").read_text())
    assert record["model"]["name"] == "cbam_resnet8"
    assert record["model"]["sha256"] == hashlib.sha256(Path("model.pt").read_bytes()).hexdigest()
    (artifact,) = record["artifacts"]
    assert artifact["path"] == "model.onnx"
    assert artifact["sha256"] == hashlib.sha256(Path("model.onnx").read_bytes()).hexdigest()
    assert artifact["validation"]["agrees"] is True
    assert {c["role"] for c in artifact["validation"]["comparisons"]} == {"gate", "output"}
    assert record["latency"]["threads"] == 1
    assert "Capturing" in done.stderr


@pytest.mark.usefixtures("told")
def test_quiet_says_nothing_but_the_result(attn_export: Command, folder: Path, network: torch.nn.Module) -> None:
    torch.save({"state_dict": network.state_dict()}, "bare.pt")
    done = attn_export("bare.pt", "--onnx", "--no-bench", "--quiet", "--arch", "cbam_resnet8", "--input", "1x3x16x16")
    assert done.returncode == 0
    assert done.stderr == ""
    assert "bare.onnx" in done.stdout


@pytest.mark.usefixtures("told")
def test_quiet_and_json_together_leave_one_document(attn_export: Command, folder: Path) -> None:
    done = attn_export("--quiet", "--json", "model.pt", "--onnx", "--no-bench", "--static")
    assert done.returncode == 0
    assert done.stderr == ""
    assert json.loads(done.stdout)["schema_version"] == 3


# Checkpoints that training scripts write.

WRAPPINGS: dict[str, Callable[[dict[str, torch.Tensor]], Any]] = {
    "bare": lambda weights: weights,
    "parallel": lambda weights: {f"module.{name}": tensor for name, tensor in weights.items()},
    "training": lambda weights: {"epoch": 90, "state_dict": weights, "optimizer": {"lr": 0.1}},
    "compiled": lambda weights: {"model": {f"module._orig_mod.{name}": tensor for name, tensor in weights.items()}},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_a_bare_state_dict_needs_its_architecture_and_nothing_more(
    attn_export: Command, folder: Path, network: torch.nn.Module, wrapping: str
) -> None:
    torch.save(WRAPPINGS[wrapping](dict(network.state_dict())), "bare.pt")
    done = attn_export("bare.pt", "--onnx", "--no-bench", "--arch", "cbam_resnet8", "--input", "1x3x16x16")
    assert done.returncode == 0, done.stderr
    assert "3 classes" in done.stderr, "what was read from the weights is said"
    assert json.loads(Path("bare.report.json").read_text())["model"]["architecture"]["num_classes"] == 3
    assert onnx.load("bare.onnx").graph.output[0].type.tensor_type.shape.dim[1].dim_value == 3


def test_a_whole_pickled_module_is_run_where_it_is_trusted(
    attn_export: Command, folder: Path, network: torch.nn.Module
) -> None:
    torch.save(network, "whole.pt")
    done = attn_export("whole.pt", "--onnx", "--no-bench", "--trust", "--input", "1x3x16x16")
    assert done.returncode == 0, done.stderr
    assert "note: " in done.stderr
    assert "--trust" in done.stderr
    assert dimensions("whole.onnx") == ["batch", 3, 16, 16]


USERS_NETWORK = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3)
        self.gate = torch.nn.Conv2d(8, 8, 1)

    def forward(self, x):
        x = self.conv(x).relu()
        return (x * self.gate(x.mean((2, 3), keepdim=True)).sigmoid()).mean((2, 3))
"""


@pytest.mark.full
def test_a_pickled_module_of_the_users_own_models_package_is_found_in_the_folder_of_that_package(folder: Path) -> None:
    """As the installed command runs it, which is not as ``python -m`` does. The package is called as ours is."""
    program = Path(sys.executable).with_name("attn-export")
    if not program.exists():
        pytest.skip("the attn-export script isn't installed beside this Python")
    (folder / "models").mkdir()
    (folder / "models" / "net.py").write_text(USERS_NETWORK)
    saving = "import torch; from models import net; torch.manual_seed(0); torch.save(net.Net(), 'users.pt')"
    subprocess.run([sys.executable, "-c", saving], check=True, cwd=folder)
    done = subprocess.run(
        [str(program), "users.pt", "--onnx", "--no-bench", "--trust", "--input", "1x3x16x16"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert dimensions(folder / "users.onnx") == ["batch", 3, 16, 16]
