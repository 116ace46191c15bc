"""The command of the README, and its precisions."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from attn_export.exporter.engine import record as engine_records
from attn_export.exporter.records.engine import MixedKernel
from attn_export.exporter.system.files import sha256_of
from tests.cli.engines.conftest import (
    ENGINE,
    SM86,
    Command,
    Contents,
    Done,
    names,
)

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


@pytest.mark.usefixtures("wrong_half")
def test_a_fault_in_the_change_to_float16_is_found(quick: None, refused: Command) -> None:
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
