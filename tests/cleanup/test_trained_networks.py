"""Trained SE networks that others published: PP-OCR's text detector, recognizer and classifier, from Paddle2ONNX.

The wheel rapidocr-onnxruntime (Apache-2.0) holds them; `make test-all` installs it without its dependencies.
"""

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import pytest

from attn_export.cli import run

WHEEL = "rapidocr_onnxruntime"
Command = Callable[..., Any]


class Trained(NamedTuple):
    """A network of the wheel.

    Attributes:
        file: its name there.
        nodes: at most, after the cleanup: fewer than the best of onnxsim 0.8.1 and onnxslim 0.1.98 leaves.
        blocks: SE blocks.
        size: of images that it takes.
    """

    file: str
    nodes: int
    blocks: int
    size: str


NETWORKS = {
    "detector": Trained("ch_PP-OCRv4_det_infer.onnx", 280, 10, "96x96"),
    "recognizer": Trained("ch_PP-OCRv4_rec_infer.onnx", 349, 2, "48x160"),
    "classifier": Trained("ch_ppocr_mobile_v2.0_cls_infer.onnx", 144, 9, "48x192"),
}
pytestmark = [pytest.mark.full, pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)]


@pytest.fixture
def source(network: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in the working folder."""
    spec = find_spec(WHEEL)
    if spec is None or spec.origin is None:
        pytest.skip("the wheel rapidocr-onnxruntime isn't installed: pip install --no-deps rapidocr-onnxruntime==1.4.4")
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copy(Path(spec.origin).parent / "models" / network.file, tmp_path / "source.onnx"))


@pytest.fixture
def answer(capfd: pytest.CaptureFixture[str]) -> Command:
    """``answer("clean", ...)`` is what the command prints as JSON; it has to succeed."""

    def printed(*words: str) -> Any:
        code = run([*words, "--json", "--quiet"])
        captured = capfd.readouterr()
        assert code == 0, captured.err
        return json.loads(captured.out)

    return printed


@pytest.mark.parametrize("target", ["", "tensorrt", "onnxruntime"])
def test_it_is_cleaned_and_agrees_with_its_source(network: Trained, source: Path, answer: Command, target: str) -> None:
    options = ["--for", target] if target else []
    done = answer("clean", source.name, "-o", "clean.onnx", "--threads", "1", *options)
    assert [block["kind"] for block in done["attention"]] == ["SE"] * network.blocks
    verdict = done["source"]
    assert verdict["agrees"]
    assert all(c["has_power"] and c["error"] < 1e-4 for c in verdict["comparisons"] if c["role"] == "output")
    assert {c["role"] for c in verdict["comparisons"]} == {"gate", "block", "output"}
    if not target:
        assert len(onnx.load("clean.onnx").graph.node) <= network.nodes


def test_its_blocks_are_listed(network: Trained, source: Path, answer: Command) -> None:
    found = answer("inspect", source.name)["attention"]
    assert [block["kind"] for block in found] == ["SE"] * network.blocks
    assert all(block["channels"] and block["reduction"] for block in found)


def test_it_is_timed_beside_its_cleaned_form(network: Trained, source: Path, answer: Command) -> None:
    answer("clean", source.name, "-o", "clean.onnx", "--threads", "1")
    options = ["--input", f"1x3x{network.size}", "--seconds", "0.3", "--threads", "1"]
    timed = answer("bench", source.name, "clean.onnx", *options)
    assert len(timed["latency"]["timings"]) == 2


def test_it_becomes_an_engine_with_no_more_kernels_than_its_source(
    network: Trained, source: Path, answer: Command
) -> None:
    pytest.importorskip("tensorrt_rtx")
    options = ["--gpu", "sm86", "--profile-batch", "1", "--size", network.size]
    counts = {}
    for name, words in {"plain": [], "tensorrt": ["--for", "tensorrt"]}.items():
        answer("clean", source.name, "-o", f"{name}.onnx", "--threads", "1", *words)
        (built,) = answer("build", f"{name}.onnx", *options)["engines"]
        counts[name] = built["record"]["cost"]["kernels"]
    assert counts["tensorrt"] <= counts["plain"]
    if network is NETWORKS["classifier"]:
        return  # TensorRT refuses the source itself, whose height and width have one name
    (built,) = answer("build", source.name, "-o", "source.engine", *options)["engines"]
    assert counts["plain"] <= built["record"]["cost"]["kernels"]
