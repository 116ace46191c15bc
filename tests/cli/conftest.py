"""A checkpoint of a small network in a folder of its own, and the command to run there."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from attn_export.cli import run
from attn_export.exporter import checkpoint as checkpoints
from attn_export.exporter.artifacts import Normalization
from attn_export.models.registry import architecture, create
from tests import shared

Finished = subprocess.CompletedProcess[str]

NETWORK = "cbam_resnet8"
INPUT_SHAPE = (3, 16, 16)
CLASSES = ("circle", "square", "triangle")


@pytest.fixture(autouse=True)
def plain_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the terminal that the tests are started from asks of rich."""
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE", "COLUMNS", "TTY_COMPATIBLE", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture(autouse=True, scope="module")
def computed_once() -> Iterator[None]:
    """Exports of the same network share its capture and its reference outputs; see tests/shared.py."""
    with pytest.MonkeyPatch.context() as patch:
        shared.use(patch)
        yield


@pytest.fixture(scope="session")
def network() -> torch.nn.Module:
    return create(NETWORK, num_classes=len(CLASSES), seed=7).requires_grad_(False)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, network: torch.nn.Module) -> Path:
    """A file of the project's own format, for images of 3x16x16."""
    return checkpoints.save(
        tmp_path_factory.mktemp("checkpoint") / "model.pt",
        network,
        architecture(NETWORK, num_classes=len(CLASSES)),
        input_shape=INPUT_SHAPE,
        normalization=Normalization(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.1)),
        class_names=CLASSES,
    )


@pytest.fixture
def folder(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the command runs in; it holds the checkpoint as model.pt, and nothing else."""
    place = tmp_path / "work"
    place.mkdir()
    shutil.copy(checkpoint, place / "model.pt")
    monkeypatch.chdir(place)
    return place


@pytest.fixture(scope="session")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what `--onnx --precision fp32,fp16` makes."""
    out = tmp_path_factory.mktemp("exported")
    options = ["--onnx", "--no-bench", "--quiet", "--precision", "fp32,fp16", "--out", str(out)]
    assert run([str(checkpoint), *options]) == 0
    return out


@pytest.fixture
def files(exported: Path, folder: Path) -> Path:
    """The folder with model.pt, model.onnx and model.fp16.onnx."""
    for name in ("model.onnx", "model.fp16.onnx"):
        shutil.copy(exported / name, folder / name)
    return folder


@pytest.fixture
def attn_export(folder: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    """``attn_export("model.pt", "--onnx")`` runs the command in this process."""

    def command(*arguments: str) -> Finished:
        capfd.readouterr()
        code = run(arguments)
        printed = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, code, printed.out, printed.err)

    return command


@pytest.fixture
def shell(folder: Path) -> Callable[..., Finished]:
    """The same in a process of its own."""

    def command(*arguments: str) -> Finished:
        return subprocess.run(
            [sys.executable, "-m", "attn_export.cli", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    return command


@pytest.fixture
def contents(folder: Path) -> Callable[[], dict[str, bytes | None]]:
    """Every file below the folder with its bytes and every folder with None, the hidden ones too.

    But for what Python keeps of a user's module.
    """

    def look() -> dict[str, bytes | None]:
        found = [path for path in folder.rglob("*") if "__pycache__" not in path.parts]
        return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in found}

    return look


@pytest.fixture
def refused(
    attn_export: Callable[..., Finished], contents: Callable[[], dict[str, bytes | None]]
) -> Callable[..., Finished]:
    """``refused(code, "model.pt", "--onnx", says=[...])`` runs what has to fail, and fail well.

    The message is one sentence on standard error that names what it is about, a hint says what to do, there is no
    traceback and no result, and the folder is as it was.
    """

    def command(code: int, *arguments: str, says: list[str], hint: str = "") -> Finished:
        before = contents()
        done = attn_export(*arguments)
        assert done.returncode == code, done.stderr
        message, _, advice = done.stderr.partition("error: ")[2].partition("\n  → ")
        for words in says:
            assert words in message
        assert advice.strip(), f"a hint is missing: {done.stderr}"
        assert hint in advice
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
        assert contents() == before, "nothing may be written or lost"
        return done

    return command


@pytest.fixture
def wrong_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """The change to float16 multiplies the weights of the first convolution by 1.05."""
    import numpy as np
    import onnx_ir as ir

    from attn_export.exporter.precision import typed_file
    from attn_export.exporter.precision.half import to_half

    def wrong(model: ir.Model, *arguments: Any) -> Any:
        kept = to_half(model, *arguments)
        value = next(node for node in model.graph if node.op_type == "Conv").inputs[1]
        assert value is not None
        assert value.const_value is not None
        value.const_value = ir.tensor(value.const_value.numpy() * np.float16(1.05), name=value.name)
        return kept

    monkeypatch.setattr(typed_file, "to_half", wrong)
