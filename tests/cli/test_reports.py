"""`--report`, `--budget` and `--images` of an export, all the way through."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from tests.cli.conftest import INPUT_SHAPE, Finished

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "docs" / "report.schema.json").read_text())
BRIEF = ("--ci", "99%", "--seconds", "0.1", "--threads", "1")
Command = Callable[..., Finished]


def report(folder: Path, name: str = "model.report.json") -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / name).read_text())
    jsonschema.validate(record, SCHEMA)
    return record


def test_a_report_holds_all_that_there_is_to_show(attn_export: Command, folder: Path) -> None:
    asked = ("model.pt", "--onnx", "--precision", "fp32,fp16", *BRIEF, "--report", "made/r.html,made/r.md,made/r.json")
    done = attn_export(*asked)
    assert done.returncode == 0, done.stderr
    record = report(folder)
    assert record == report(folder, "made/r.json")
    assert record["command"] == ["attn-export", *asked]
    assert [graph["artifact"] for graph in record["graphs"]] == ["model.onnx", "model.fp16.onnx"]
    assert all(len(g["after"]["operators"]) < len(g["before"]["operators"]) for g in record["graphs"])
    assert [cost["artifact"] for cost in record["attention_cost"]] == ["model.onnx", "model.fp16.onnx"]
    seen = record["gate_activations"]
    assert {gate["kind"] for gate in seen["gates"]} == {"channel", "spatial"}
    assert all(list(gate["values"]) == ["PyTorch", "model.onnx", "model.fp16.onnx"] for gate in seen["gates"])
    page = (folder / "made" / "r.html").read_text()
    assert "<svg" in page
    assert "model.fp16.onnx" in page
    assert "model.fp16.onnx" in (folder / "made" / "r.md").read_text()
    for name in ("made/r.html", "made/r.md", "made/r.json"):
        assert name in done.stdout


def test_without_a_report_nothing_is_drawn(attn_export: Command, folder: Path) -> None:
    assert attn_export("model.pt", "--onnx", "--no-bench").returncode == 0
    record = report(folder)
    assert (record["graphs"], record["gate_activations"], record["attention_cost"]) == ([], None, [])
    assert record["latency"]["timings"] == []


def test_without_latencies_a_report_has_the_rest(attn_export: Command, folder: Path) -> None:
    done = attn_export("model.pt", "--onnx", "--no-bench", "--report", "r.html")
    assert done.returncode == 0, done.stderr
    record = report(folder)
    assert record["attention_cost"] == []
    assert record["gate_activations"]["gates"]
    assert "<svg" in (folder / "r.html").read_text()


def test_a_budget_that_holds_is_in_the_record(attn_export: Command, folder: Path) -> None:
    done = attn_export("model.pt", "--onnx", *BRIEF, "--budget", "latency=1000s", "--budget", "drop=0%")
    assert done.returncode == 0, done.stderr
    assert [(b["metric"], b["state"]) for b in report(folder)["budgets"]] == [("latency", "kept"), ("drop", "kept")]
    assert "Budgets" in done.stdout


def test_a_broken_budget_fails_and_the_proven_file_is_there(attn_export: Command, folder: Path) -> None:
    done = attn_export("model.pt", "--onnx", *BRIEF, "--budget", "onnxruntime:latency=1e-9ms", "--report", "r.md")
    assert done.returncode == 1
    assert "onnxruntime:latency=1e-9ms" in done.stderr
    assert (folder / "model.onnx").exists()
    assert (folder / "r.md").exists()
    assert report(folder)["budgets"][0]["state"] == "broken"


def test_a_broken_budget_is_part_of_the_document(attn_export: Command) -> None:
    done = attn_export("model.pt", "--onnx", *BRIEF, "--budget", "latency=1e-9ms", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == document["error"]["exit_code"] == 1


def test_images_of_the_users_are_judged_and_looked_at(attn_export: Command, folder: Path) -> None:
    np.save(folder / "images.npy", np.random.default_rng(3).normal(size=(5, *INPUT_SHAPE)).astype(np.float32))
    done = attn_export("model.pt", "--onnx", "--no-bench", "--images", "images.npy", "--report", "r.json")
    assert done.returncode == 0, done.stderr
    record = report(folder)
    assert record["gate_activations"]["image"]["kind"] == "real"
    assert all("real" in c["ratios"] for c in record["artifacts"][0]["validation"]["comparisons"])


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--budget", "latency=fast"], 2, "latency=fast"),
        (["--budget", "latency=3", "--no-bench"], 2, "nothing is timed"),
        (["--budget", "compile:latency=3"], 2, "compile"),
        (["--ci", "none"], 2, "--ci 'none'"),
        (["--report", "r.pdf"], 2, "r.pdf"),
        (["--report", "r.html,r.html"], 2, "twice"),
        (["--report", "model.pt/r.html"], 6, "r.html"),
        (["--images", "missing.npy"], 3, "missing.npy"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_is_reported_before_anything_is_done(
    refused: Command, arguments: list[str], code: int, says: str
) -> None:
    refused(code, "model.pt", "--onnx", *arguments, "--quiet", says=[says])


def test_two_reports_are_compared(attn_export: Command, folder: Path) -> None:
    for name in ("old", "new"):
        shutil.rmtree(folder / name, ignore_errors=True)
        assert attn_export("model.pt", "--onnx", *BRIEF, "--out", name).returncode == 0
    done = attn_export("compare", "old/model.report.json", "new/model.report.json", "--slower", "100000%", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pairs"]
