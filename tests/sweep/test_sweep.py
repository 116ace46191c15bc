"""The command with real networks; here in this process, and in `make test-all` as its users run it."""

import csv
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from attn_export.cli import run
from attn_export.exporter import checkpoint as checkpoints
from attn_export.models.registry import architecture, create
from tests import shared
from tests.sweep import in_process

CELLS = """\
models = ["my net.pt"]
precisions = ["fp16"]
targets = ["cpu", "sm86"]
runtimes = ["onnxruntime", "tensorrt-rtx"]
seconds = 0.2
"""


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    shared.use(monkeypatch)
    in_process.use(monkeypatch)


def checkpoint(path: Path) -> Path:
    network = create("cbam_resnet8", num_classes=3, seed=7)
    return checkpoints.save(path, network, architecture("cbam_resnet8", num_classes=3), input_shape=(3, 16, 16))


def answer(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = run(["sweep", *words, "--json", "--quiet"])
    return code, json.loads(capsys.readouterr().out)


def test_a_plan_becomes_rows_files_and_reports(
    tmp_path: Path, in_this_process: None, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint(tmp_path / "my net.pt")
    plan = tmp_path / "plan.toml"
    plan.write_text(CELLS)
    code, document = answer([str(plan)], capsys)
    assert code == 0, document
    rows = {row["runtime"]: row for row in document["rows"]}
    timed, engine = rows["onnxruntime"], rows["tensorrt-rtx"]
    assert document["left_out"] == {"tensorrt-rtx doesn't run on cpu": 1, "onnxruntime doesn't run on sm86": 1}
    assert timed["agrees"]
    assert timed["latency_low_ms"] <= timed["latency_ms"] <= timed["latency_high_ms"]
    assert 1e-5 < timed["error"] == engine["error"] < 1e-2
    assert engine["kernels"] > 0
    assert engine["bytes"] != timed["bytes"]
    assert engine["latency_ms"] is None
    assert "GPU" in engine["not_timed"]
    out = tmp_path / "plan.sweep"
    assert all((out / row["report"]).is_file() for row in rows.values())
    with (out / "results.csv").open(newline="") as stream:
        assert [row["status"] for row in csv.DictReader(stream)] == ["good"] * 2
    assert len((out / "results.jsonl").read_text().splitlines()) == 2
    code, document = answer([str(plan)], capsys)
    assert (code, document["computed"], document["reused"]) == (0, 0, 3)


@pytest.mark.full
def test_int8_is_judged_by_its_quality_and_an_onnx_file_by_its_source(
    tmp_path: Path, in_this_process: None, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint(tmp_path / "net.pt")
    images = np.random.default_rng(0).normal(scale=0.1, size=(16, 3, 16, 16)).astype("float32")
    np.save(tmp_path / "images.npy", images)  # on others, ten times as large, int8 clips
    plan = tmp_path / "plan.toml"
    plan.write_text('models = ["net.pt"]\nprecisions = ["int8"]\ncalibration = "images.npy"\nseconds = 0.1\n')
    code, document = answer([str(plan)], capsys)
    (row,) = document["rows"]
    assert code == 0, row
    assert row["sqnr_db"] > 10
    assert row["class_agreement"] > 0.5
    (made,) = (tmp_path / "plan.sweep" / "cells").glob("*/model.onnx")
    (tmp_path / "theirs.onnx").write_bytes(made.read_bytes())
    plan.write_text('models = ["theirs.onnx"]\nprecisions = ["fp32", "fp16"]\nseconds = 0.1\n')
    code, document = answer([str(plan), "-o", str(tmp_path / "out")], capsys)
    assert code == 0, document
    assert [(row["precision"], row["agrees"]) for row in document["rows"]] == [("fp32", None), ("fp16", True)]


NET = """\
from torch import nn
class Net(nn.Sequential):
    def __init__(self, classes):
        super().__init__(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))
"""
THEIRS = """\
models = [{ path = "theirs.pt", code = "net.py:Net", kwargs = { classes = 3 }, checkpoint_key = "ema" }]
input = "1x3x16x16"
seconds = 0.1
"""


def strangers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan for a network whose code and weights stand in two files."""
    (folder / "net.py").write_text(NET)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "net", raising=False)
    state = importlib.import_module("net").Net(3).state_dict()
    torch.save({"model": {}, "ema": state}, folder / "theirs.pt")
    (folder / "plan.toml").write_text(THEIRS)
    return folder / "plan.toml"


def test_a_network_of_the_users_own_is_built_by_the_plan(
    tmp_path: Path, in_this_process: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, document = answer([str(strangers(tmp_path, monkeypatch))], capsys)
    assert code == 0, document
    assert [(row["model"], row["agrees"]) for row in document["rows"]] == [("theirs", True)]


@pytest.mark.full
def test_int8_takes_a_folder_of_pictures(
    tmp_path: Path, in_this_process: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = strangers(tmp_path, monkeypatch)
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    for i in range(8):
        pixels = np.random.default_rng(i).integers(0, 255, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((20, 18)).save(tmp_path / "photos" / "cats" / f"{i}.png")
    more = 'precisions = ["int8"]\ncalibration = "photos"\n'
    plan.write_text(THEIRS + more)
    code, document = answer([str(plan)], capsys)
    assert code == 2
    assert "nothing says how the network's images are normalized" in document["error"]["message"]
    plan.write_text(f"{THEIRS}{more}mean = [0.5, 0.4, 0.3]\nstd = [0.2, 0.2, 0.2]\n")
    code, document = answer([str(plan)], capsys)
    assert code == 0, document
    assert document["rows"][0]["sqnr_db"] > 20


def test_a_model_that_cannot_be_read_is_a_row_that_says_why(
    tmp_path: Path, in_this_process: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.pt").write_bytes(b"nothing that torch wrote")
    plan = tmp_path / "plan.toml"
    plan.write_text('models = ["*.pt"]\nruntimes = ["eager"]\n')
    code, document = answer([str(plan)], capsys)
    assert code == 3
    assert document["error"]["message"].startswith("of 1 cell 1 failed; the first is broken fp32 cpu batch 1 eager")
    assert [(row["model"], row["status"], row["exit_code"]) for row in document["rows"]] == [("broken", "failed", 3)]
    assert "broken.pt" in (tmp_path / "plan.sweep" / "results.csv").read_text()


def test_the_dry_run_and_a_new_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint(tmp_path / "net.pt")
    plan = tmp_path / "plan.toml"
    assert run(["sweep", str(plan), "--init"]) == 0
    assert run(["sweep", str(plan), "--init"]) == 6
    capsys.readouterr()
    assert run(["sweep", str(tmp_path / "other.toml"), "--init", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"plan": str(tmp_path / "other.toml")}
    assert run(["sweep", str(plan), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "net fp16 cpu batch 8 onnxruntime" in printed
    assert "eager runs the checkpoint, which is fp32" in printed
    assert not (tmp_path / "plan.sweep").exists()


def full_plan(folder: Path) -> Path:
    for name in ("se_resnet8", "cbam_resnet8"):
        path = folder / f"{name}.pt"
        checkpoints.save(
            path, create(name, num_classes=3, seed=1), architecture(name, num_classes=3), input_shape=(3, 32, 32)
        )
    np.save(folder / "images.npy", np.random.default_rng(0).normal(size=(16, 3, 32, 32)).astype("float32"))
    plan = folder / "plan.toml"
    plan.write_text(
        'models = ["*.pt"]\nprecisions = ["fp32", "fp16", "int8"]\nbatches = [1, 2, 4]\ncalibration = "images.npy"\n'
        "seconds = 0.2\n"
    )
    return plan


MEASURED = ("latency_ms", "latency_low_ms", "latency_high_ms", "p99_ms", "images_per_second", "seconds", "node")


def unmeasured(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in MEASURED} for row in document["rows"]]


@pytest.mark.full
def test_two_networks_in_three_precisions_and_batches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, document = answer([str(full_plan(tmp_path))], capsys)
    assert code == 0, document
    assert len(document["rows"]) == 18
    assert all(row["agrees"] and row["latency_ms"] > 0 for row in document["rows"])
