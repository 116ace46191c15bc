"""Old results or new ones, never a mixture, whenever the program is interrupted or killed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attn_export.cli import run
from attn_export.exporter.system.scratch import clear_abandoned
from tests.engine.graphs import plain

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a kill ends the work on Linux only"),
]
MOMENTS = 10
COMMANDS = {
    "build": ["build", "model.onnx", "--gpu", "sm86", "--quiet", "--threads", "1"],
    "clean": ["clean", "model.onnx", "-o", "out.onnx", "--quiet", "--threads", "1"],
}
OLDER = {
    "build": ["build", "model.onnx", "--gpu", "sm89", "--quiet", "--threads", "1"],
    "clean": ["clean", "model.onnx", "-o", "out.onnx", "--for", "tensorrt", "--quiet", "--threads", "1"],
}


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() if path.is_file() else b"folder" for path in folder.iterdir()}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_results_are_old_or_new(
    name: str, sent: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.chdir(tmp_path)
    plain(tmp_path / "model.onnx")
    assert run(OLDER[name]) == 0
    old = content(tmp_path)
    begun = time.monotonic()
    program = [sys.executable, "-m", "attn_export", *COMMANDS[name]]
    assert subprocess.run(program, capture_output=True, check=False).returncode == 0
    seconds, draw = time.monotonic() - begun, random.Random(f"{name} {sent}")
    for _ in range(MOMENTS):
        for path in content(tmp_path):
            (tmp_path / path).unlink()
        for path, data in old.items():
            (tmp_path / path).write_bytes(data)
        process = subprocess.Popen(
            program, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(draw.uniform(0.3, 1.1) * seconds)
        if process.poll() is None:
            os.killpg(process.pid, sent)
        code = process.wait()
        for _ in range(600):
            clear_abandoned(tmp_path)  # as the next command does
            if not list(tmp_path.glob(".attn-export-*")):
                break
            time.sleep(0.05)  # the child, which was killed too, is still dying
        found = content(tmp_path)
        assert found.keys() == old.keys()
        changed = {path for path in old if found[path] != old[path]}
        assert changed in (set(), old.keys() - {"model.onnx"}), (code, changed)
        assert code in (0, 130, -sent)
