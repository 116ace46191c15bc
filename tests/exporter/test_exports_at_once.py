"""Many processes that export into one folder at once."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from attn_export.exporter.report.read import read_report
from attn_export.exporter.system.files import sha256_of
from attn_export.models.registry import create

AT_ONCE = 20


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return create("se_resnet8", num_classes=3).eval()


def start(folder: Path, name: str, *options: str) -> "subprocess.Popen[str]":
    words = [name, "--onnx", "--arch", "se_resnet8", "--no-bench", "--quiet", "--threads", "1", *options]
    command = [sys.executable, "-m", "attn_export", *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.full
def test_many_exports_at_once_into_one_folder(tmp_path: Path) -> None:
    """Half of them write the same files, with two opsets: the file and its report are of one export."""
    names = ["same", *(f"n{number}" for number in range(AT_ONCE // 2))]
    for name in names:
        torch.save(network().state_dict(), tmp_path / f"{name}.pt")
    different = [start(tmp_path, f"{name}.pt") for name in names[1:]]
    same = [start(tmp_path, "same.pt", "--opset", str(19 + number % 2)) for number in range(AT_ONCE // 2)]
    ended = [(process.communicate()[0], process.returncode) for process in (*different, *same)]
    assert [code for _, code in ended] == [0] * AT_ONCE, ended
    written = {f"{name}{ending}" for name in names for ending in (".pt", ".onnx", ".report.json")}
    assert {path.name for path in tmp_path.iterdir()} == written
    for name in names:
        report = read_report(tmp_path / f"{name}.report.json")
        assert [file.sha256 for file in report.artifacts] == [sha256_of(tmp_path / f"{name}.onnx")]
