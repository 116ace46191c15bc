"""The main command where engines and precisions are asked for, on a machine without a GPU."""

import io
import json
import shutil
import subprocess
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from attn_export.cli import run
from attn_export.exporter.artifacts import OnnxFile, Precision, Target
from attn_export.exporter.network.axes import opened
from attn_export.exporter.network.batches import batches
from attn_export.exporter.records.results import Made
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.system import gpus
from attn_export.exporter.system.progress import NullProgress
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


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def plain(done_once: Callable[..., Done]) -> Done:
    """The command of the README."""
    return done_once("--onnx", "--engine", "--gpu", "sm86,sm89", "--seconds", "0.3")


@pytest.fixture(scope="session")
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


def engine_of(folder: Path, name: str = "model.engine") -> dict[str, Any]:
    return dict(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))
