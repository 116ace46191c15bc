"""Many processes that export into one folder at once."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from attn_export.models.registry import create

AT_ONCE = 3


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return create("se_resnet8", num_classes=3).eval()


@pytest.mark.full
def test_many_exports_at_once_into_one_folder(tmp_path: Path) -> None:
    def start(number: int) -> "subprocess.Popen[str]":
        torch.save(network().state_dict(), tmp_path / f"n{number}.pt")
        words = [f"n{number}.pt", "--onnx", "--arch", "se_resnet8", "--no-bench", "--quiet", "--threads", "1"]
        command = [sys.executable, "-m", "attn_export", *words]
        return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    started = [start(number) for number in range(AT_ONCE)]
    ended = [(process.communicate()[0], process.returncode) for process in started]
    assert [code for _, code in ended] == [0] * AT_ONCE, ended
    names = {f"n{number}{ending}" for number in range(AT_ONCE) for ending in (".pt", ".onnx", ".report.json")}
    assert {path.name for path in tmp_path.iterdir()} == names
