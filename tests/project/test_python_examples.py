"""The Python in README and docs runs as it stands, on a small network."""

import re
from functools import partial
from pathlib import Path

import pytest

import attn_export.exporter
from attn_export.exporter.records.latency import Schedule
from attn_export.exporter.workflows import export as workflow
from attn_export.exporter.workflows.settings import ExportSettings
from attn_export.models.registry import create
from tests import shared
from tests.inputs.networks import network

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = [
    pytest.param(code, id=f"{page.name}-{i}")
    for page in PAGES
    for i, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
]


def test_there_are_examples():
    assert EXAMPLES


@pytest.mark.parametrize("code", EXAMPLES)
def test_an_example_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shared.use(monkeypatch)
    brief = partial(ExportSettings, schedule=Schedule(seconds=0.1), runtimes=("onnxruntime",))
    for place in (workflow, attn_export.exporter):
        monkeypatch.setattr(place, "ExportSettings", brief)
    scope = {"module": create("cbam_resnet8"), "words": network("words")}
    exec(compile(code.replace("224", "32"), "example", "exec"), scope)
    assert scope["result"].verdict.agrees
    assert list((tmp_path / "build").glob("*.onnx"))
