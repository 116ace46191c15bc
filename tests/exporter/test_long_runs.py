"""A process that exports all day, and many that export into one folder."""

import gc
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from attn_export.exporter import ExportSettings, export
from attn_export.exporter.system.memory import trim
from attn_export.models.registry import create

EXPORTS, AT_ONCE = 200, 20
SETTLED = 0.25  # of the exports: caches fill at first


@pytest.mark.full
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="descriptors and resident memory of Linux")
def test_memory_and_descriptors_stay_what_they_are(tmp_path: Path) -> None:
    memory, descriptors = [], []
    for number in range(EXPORTS):
        settings = ExportSettings(threads=1, runtimes=(), show=False)
        export(network(), (1, 3, 32, 32), tmp_path, name=f"n{number % 3}", settings=settings)
        gc.collect()
        trim()
        memory.append(psutil.Process().memory_info().rss)
        descriptors.append(psutil.Process().num_fds())
    first = int(EXPORTS * SETTLED)
    assert max(memory[first:]) < 1.05 * memory[first]
    assert max(descriptors[first:]) <= descriptors[first]
    assert len(list(tmp_path.iterdir())) == 6


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
