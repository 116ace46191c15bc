"""GPUs, sizes, backends and options."""

import json
import sys
from pathlib import Path

import pytest

from attn_export.exporter.artifacts import Precision
from attn_export.exporter.bundle.read import read_bundle
from attn_export.exporter.system.files import sha256_of
from tests.cli.engines.conftest import (
    SM86,
    Command,
    engine_of,
    names,
)

# ---- GPUs ---------------------------------------------------------------------------------------------------------


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
