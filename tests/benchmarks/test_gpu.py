"""`benchmarks/gpu.py` on a machine without a GPU: it runs to its end, and every missing part says why."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attn_export.exporter.runtimes import RUNTIMES
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime
from attn_export.exporter.system import gpus

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, str(ROOT / "benchmarks" / "gpu.py")]
pytestmark = [pytest.mark.full, pytest.mark.skipif(bool(gpus.found()), reason="there is a GPU here")]


def ran(folder: Path, *arguments: str) -> dict[str, Any]:
    """What it prints, from a folder that isn't the checkout; the file has to hold the same."""
    out = folder / "result.json"
    command = [*PROGRAM, "--quick", "--out", str(out), *arguments]
    told = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=True)
    document: dict[str, Any] = json.loads(told.stdout)
    assert json.loads(out.read_text()) == document
    return document


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    models = ("--models", "no_such_network,se_resnet8", "--batches", "2", "--precision", "fp32,fp16")
    return ran(tmp_path_factory.mktemp("gpu"), *models, "--seconds", "250")


def missing(part: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(part, dict):
        if "missing" in part:
            yield path, part["missing"]
        for key, value in part.items():
            yield from missing(value, f"{path}/{key}")


def test_nothing_is_left_out_and_every_reason_is_reported(document: dict[str, Any]) -> None:
    reasons = dict(missing(document))
    assert reasons["/machine/gpus"] == "the driver shows no GPU"
    for precision in ("fp32", "fp16"):
        batch = f"/models/se_resnet8/precisions/{precision}/batches/2"
        assert "can't run on cuda" in reasons[f"{batch}/eager/open"]
        assert "can't run on cuda" in reasons[f"{batch}/compile/open"]
        assert "CUDAExecutionProvider" in reasons[f"{batch}/onnxruntime-cuda/open"]
        assert "was not run: no GPU" in reasons[f"{batch}/tensorrt-rtx/open"]
        assert reasons[f"{batch}/timings"] == "no runtime works here"
    assert all(reasons.values())


def test_what_works_without_a_gpu_is_there(document: dict[str, Any]) -> None:
    model = document["models"]["se_resnet8"]
    assert model["export"]["blocks"] == 3
    assert 0 < model["reference"]["float32_error"] < 1e-5
    engine = model["precisions"]["fp32"]["engines"]["tensorrt-rtx"]
    assert engine["gpus"] == ["portable"]
    assert engine["kernels"] > 10
    assert "no GPU" in engine["note"] or "this machine has none" in engine["note"]


def test_a_part_that_fails_takes_no_other_along(document: dict[str, Any]) -> None:
    assert "no_such_network" in document["models"]["no_such_network"]["network"]["missing"]
    assert "seconds" in document["models"]["se_resnet8"]


def test_it_runs_from_the_checkout_and_leaves_nothing_there(document: dict[str, Any]) -> None:
    assert document["machine"]["checkout"] == str(ROOT)
    assert not (ROOT / "attn_export").exists()


def test_without_time_every_part_says_so(tmp_path: Path) -> None:
    document = ran(tmp_path, "--seconds", "3", "--models", "se_resnet8")
    parts = (document["machine"], document["models"]["se_resnet8"])
    assert all(part["missing"] == "no time left of 3 s" for part in parts)


# What runs only where runtimes do, with runtimes of the CPU in their place.


@pytest.fixture(scope="module")
def program() -> Any:
    spec = importlib.util.spec_from_file_location("gpu_benchmark", PROGRAM[1])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def subject(program: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = program.Subject("se_resnet8", (1, 2), tmp_path_factory.mktemp("subject"))
    made.export()
    made.compute()
    return made


def on_the_cpu(subject: Any, file: Any) -> dict[str, Any]:
    return {
        "eager": lambda signature: RUNTIMES["eager"](subject.model, replace(file, signature=signature), Settings(1)),
        "tensorrt": lambda signature: OnnxRuntime(file.path, signature, Settings(1)),
    }


def test_what_opens_is_checked_and_timed(
    program: Any, subject: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "makers", lambda subject, file, _: on_the_cpu(subject, file))
    monkeypatch.setattr(OnnxRuntime, "name", "tensorrt")
    report = program.Report(tmp_path / "part.json", 60)
    into: dict[str, Any] = {}
    program.run_batch(report, into, subject, subject.file, {"tensorrt": tmp_path}, 2, 0.2)
    assert [timing["runtime"] for timing in into["timings"]] == ["eager", "tensorrt"]
    for name in ("eager", "tensorrt"):
        assert 0.1 < into[name]["check"]["ratio"] < 8
        assert into[name]["profile"] == {"missing": "torch's profiler sees no GPU"}
    assert into["tensorrt-rtx"] == {"missing": "there is no engine, see engines"}


def test_one_that_fails_while_it_is_timed_does_not_take_the_others_times_along(
    program: Any, subject: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tired(OnnxRuntime):
        name = "tensorrt"

        def upload(self, arrays: Any) -> Any:
            raise_it = self.open_seconds > 0 and sys._getframe(2).f_code.co_name == "measure"
            return {} if raise_it else super().upload(arrays)

    def makers(subject: Any, file: Any, _: Any) -> dict[str, Any]:
        return on_the_cpu(subject, file) | {"tensorrt": lambda signature: Tired(file.path, signature, Settings(1))}

    monkeypatch.setattr(program, "makers", makers)
    report = program.Report(tmp_path / "part.json", 60)
    into: dict[str, Any] = {}
    program.run_batch(report, into, subject, subject.file, {"tensorrt": tmp_path}, 1, 0.1)
    assert into["timings"]["missing"]
    assert into["eager"]["timed alone"][0]["median_ms"] > 0
    assert into["tensorrt"]["timed alone"]["missing"]
    assert into["tensorrt"]["check"]["error"] < 1e-5
