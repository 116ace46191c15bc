"""Every precision of one export: the files, the engines, their side-by-side table, and what is refused."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from attn_export.cli import run
from attn_export.exporter.artifacts import Precision
from attn_export.exporter.report.findings import precision as findings
from attn_export.exporter.report.read import read_report
from attn_export.exporter.system import gpus
from tests.faults.planting import DIGITS
from tests.precision.test_bfloat16 import held_out

Command = Callable[..., subprocess.CompletedProcess[str]]
SM86 = ("--engine", "--gpu", "sm86")


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "found", lambda: ())


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, held_out("se_digits")[:32])
    return path


def exported(folder: Path, images: Path, gpu: str, *arguments: str) -> dict[str, dict[str, Any]]:
    """The artifacts of an export by name."""
    shutil.copy(DIGITS / "se_digits.pt", folder / "model.pt")
    quick = ("--no-bench", "--threads", "1", "--quiet", "--report", str(folder / "r.md"))
    command = (str(folder / "model.pt"), "--engine", "--gpu", gpu, *arguments, "--calibration", str(images), *quick)
    assert run(command) == 0
    record = json.loads((folder / "model.report.json").read_text(encoding="utf-8"))
    return {artifact["path"]: artifact for artifact in record["artifacts"]}


def test_one_command_makes_and_judges_every_precision(images: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    found = exported(tmp_path, images, "sm86", "--precision", "fp32,tf32,fp16,int8", "--around", "fp16")
    stems = ["model", "model.fp16", "model.int8"]
    assert list(found) == [f"{stem}.onnx" for stem in stems] + [
        f"{stem}.engine" for stem in ("model", "model.tf32", *stems[1:])
    ]
    assert all(found[f"{stem}.onnx"]["validation"]["agrees"] for stem in stems)
    assert {name: entry["types"]["requested"] for name, entry in found.items() if name.endswith(".engine")} == {
        "model.engine": "fp32",
        "model.tf32.engine": "tf32",
        "model.fp16.engine": "fp16",
        "model.int8.engine": "int8",
    }
    assert found["model.tf32.engine"]["options"]["tf32"] is True
    assert found["model.tf32.engine"]["onnx"]["sha256"] == found["model.onnx"]["sha256"]
    how = found["model.int8.onnx"]["quantization"]
    assert (how["precision"], how["around"], how["images"]) == ("int8", "fp16", 32)
    assert how["quality"]["agreement"] == 1.0
    assert "INT8" in found["model.int8.engine"]["types"]["kernels"]
    kept = [entry.key for entry in onnx.load(tmp_path / "model.int8.onnx").metadata_props]
    assert len(kept) == len(set(kept))
    assert {"attn_export.quantization", "attn_export.normalization", "attn_export.validation"} <= set(kept)

    report = read_report(tmp_path / "model.report.json")
    assert report.images is not None
    assert report.images.images == 8, "calibration images stand in for the user's own"
    assert found["model.int8.onnx"]["quantized"]["sqnr_db"]["output"] > 30, "on noise it would be 13"
    table = findings.side_by_side(report)
    assert table is not None
    cells = {row[0].text: {c.title: e.text for c, e in zip(table.columns, row, strict=True)} for row in table.rows}
    assert list(cells) == [f"{stem}.onnx" for stem in stems] + ["model.tf32.engine"]
    assert cells["model.int8.onnx"]["other top-1 class"] == "0 of 32"
    assert cells["model.int8.onnx"]["kernels"] == str(found["model.int8.engine"]["kernels"])
    assert {row["verdict"] for row in cells.values()} == {"agrees", "not run"}
    assert any("model.int8.engine has" in sentence for sentence in findings.advice(report))
    assert "What each precision costs and gives" in (tmp_path / "r.md").read_text(encoding="utf-8")


@pytest.mark.full
def test_the_other_precisions_on_a_gpu_that_has_them(images: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    found = exported(tmp_path, images, "sm89,sm120", "--precision", "bf16,fp8,int8")
    assert {"BFLOAT16"} <= set(found["model.bf16.engine"]["types"]["kernels"])
    assert {"FLOAT8E4M3FN"} <= set(found["model.fp8.engine"]["types"]["kernels"])
    assert {"INT8"} <= set(found["model.int8.engine"]["types"]["kernels"])
    assert all(entry["validation"]["agrees"] for name, entry in found.items() if name.endswith(".onnx"))


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP8])
def test_without_calibration_the_option_is_named(refused: Command, folder: Path, precision: Precision) -> None:
    shutil.copy(DIGITS / "se_digits.pt", folder / "model.pt")
    needs = [f"{precision} needs images to choose ranges from"]
    refused(2, "model.pt", "--onnx", "--precision", f"fp32,{precision}", says=needs, hint="--calibration DIR")


@pytest.mark.parametrize(("arguments", "says"), [(("--calibration", "a.npy"), "--calibration is for int8 and fp8"), (("--around", "fp16"), "--around is for int8 and fp8"), (("--io", "native"), "--io native is for fp16 and bf16")])  # fmt: skip # noqa: E501
def test_options_of_quantization_need_one(
    refused: Command, folder: Path, arguments: tuple[str, ...], says: str
) -> None:
    shutil.copy(DIGITS / "se_digits.pt", folder / "model.pt")
    refused(2, "model.pt", "--onnx", *arguments, says=[says], hint="leave it out")


@pytest.mark.parametrize("target", [("--gpu", "sm86,sm89"), ("--gpu", "sm87"), ()])
def test_float8_needs_gpus_that_have_it(refused: Command, folder: Path, images: Path, target: tuple[str, ...]) -> None:
    pytest.importorskip("tensorrt_rtx")
    shutil.copy(DIGITS / "se_digits.pt", folder / "model.pt")
    arguments = ("--engine", *target, "--precision", "fp8", "--calibration", str(images))
    refused(5, "model.pt", *arguments, says=["has no float8"], hint="--gpu sm89,sm120")


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_build_names_the_command_that_quantizes(refused: Command, folder: Path, precision: str) -> None:
    pytest.importorskip("tensorrt_rtx")
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1] x) => (float[1] y) {y = Relu(x)}'
    )
    onnx.save(model, folder / "model.onnx")
    arguments = ("build", "model.onnx", "--gpu", "sm89", "--precision", precision)
    refused(2, *arguments, says=[f"{precision} needs calibration images"], hint="attn-export quantize model.onnx")
