"""The fine-tuning example, in a short form: it runs, and every network starts where the plain one stands."""

import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "finetune" / "finetune.py"


@pytest.mark.full
def test_the_example_trains_equips_and_exports(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn, which brings the images, is not installed")
    command = [sys.executable, str(SCRIPT), "--epochs", "1", "--seeds", "1", "--out", str(tmp_path), "--no-bench"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^(\w+) +(\d) +[\d,]+ +(\d+) +(\d+)", done.stdout, re.MULTILINE)
    assert [(row[0], row[1]) for row in rows] == [("none", "0"), ("se", "3"), ("cbam", "3"), ("eca", "3")]
    assert len({before for _, _, before, _ in rows}) == 1
    for name, *_ in rows:
        onnx.checker.check_model(onnx.load(tmp_path / f"{name}.onnx"))
