"""How often one command parses and checks an ONNX file: facts are carried, not read again."""

import shutil
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from attn_export.cli import run
from attn_export.exporter.graph import read as reading

MOST_READS = 3


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[Path]:
    """Counts the reads of each file from here on."""
    counted: Counter[Path] = Counter()
    parse = reading._parse

    def counting(path: Path) -> object:
        counted[path.resolve()] += 1
        return parse(path)

    monkeypatch.setattr(reading, "_parse", counting)
    return counted


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, network: torch.nn.Module) -> Path:
    """The network as PyTorch writes it."""
    path = tmp_path_factory.mktemp("file") / "model.onnx"
    axes = {"input": {0: "batch"}}
    images = (torch.zeros(2, 3, 32, 32),)
    options: dict[str, Any] = {"dynamo": False, "input_names": ["input"], "dynamic_axes": axes, "opset_version": 18}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, images, path, **options)
    return path


def test_clean_reads_each_file_at_most_three_times(file: Path, reads: Counter[Path], tmp_path: Path) -> None:
    assert run(["clean", str(file), "-o", str(tmp_path / "clean.onnx"), "--quiet"]) == 0
    assert reads
    assert max(reads.values()) <= MOST_READS, reads


def test_inspect_reads_a_file_once(file: Path, reads: Counter[Path]) -> None:
    assert run(["inspect", str(file), "--quiet"]) == 0
    assert list(reads.values()) == [1]


def test_build_reads_each_file_at_most_three_times(file: Path, reads: Counter[Path], tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    source = shutil.copy(file, tmp_path / "model.onnx")
    gpus = ["--gpu", "sm86", "--gpu", "Jetson Orin Nano"]
    for _ in ("made", "there already"):
        reads.clear()
        assert run(["build", str(source), *gpus, "--precision", "fp16", "--quiet"]) == 0
        assert len(reads) >= 2
        assert max(reads.values()) <= MOST_READS, reads


def read_at_most_three_times(reads: Counter[Path], *names: str) -> None:
    """Each of the named files is read, and no file is read more than three times."""
    assert {path.name for path in reads} >= set(names)
    assert max(reads.values()) <= MOST_READS, reads


def test_an_export_reads_each_file_at_most_three_times(folder: Path, reads: Counter[Path]) -> None:
    pytest.importorskip("tensorrt_rtx")
    engines = ["--engine", "--gpu", "sm86", "--gpu", "Jetson Orin Nano"]
    options = ["--precision", "fp32,fp16", *engines, "--seconds", "0.1", "--report", "report.html", "--quiet"]
    assert run(["model.pt", "--onnx", *options]) == 0
    read_at_most_three_times(reads, "model.onnx", "model.fp16.onnx")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("command", [["bench", "--seconds", "0.1"], ["validate"]], ids=lambda command: command[0])
def test_bench_and_validate_read_each_file_at_most_three_times(command: list[str], reads: Counter[Path]) -> None:
    made = ["model.pt", "model.onnx", "model.fp16.onnx"]
    assert run([command[0], *made, *command[1:], "--report", "report.html", "--quiet"]) == 0
    read_at_most_three_times(reads, "model.onnx", "model.fp16.onnx")
