"""`attn-export doctor`: a report of what is here, which never fails because of it."""

import json
import re
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from jsonschema import validate

from attn_export.exporter.system import survey
from attn_export.exporter.system.gpus import Gpu, GpuSurvey
from attn_export.exporter.system.jetson import Jetson
from attn_export.exporter.system.libraries import WANTED, Library, Wanted

Command = Callable[..., Any]
SECTIONS = ("Machine", "Libraries", "GPU", "Possible here", "Not here")
WITH_CUDA: dict[str, dict[str, Any]] = {
    "torch": {"cuda": "13.0", "usable": True},
    "onnxruntime": {"providers": ["CUDAExecutionProvider"]},
}
TEXT, WORDS_OR_NONE = {"type": "string", "minLength": 1}, {"type": ["string", "null"]}
SCHEMA = {
    "type": "object",
    "required": ["schema_version", "machine", "libraries", "gpus", "gpu_trouble", "jetson", "jobs", "missing"],
    "additionalProperties": False,
    "properties": {
        "schema_version": {"const": 3},
        "machine": {
            "type": "object",
            "required": [
                "attn_export",
                "python",
                "executable",
                "system",
                "cpu",
                "cpus",
                "memory",
                "cache",
                "cache_bytes",
            ],
        },
        "libraries": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "module", "installed", "works", "version", "trouble"],
                "properties": {"works": {"type": "boolean"}, "version": WORDS_OR_NONE, "trouble": WORDS_OR_NONE},
            },
        },
        "gpus": {
            "type": "array",
            "items": {"type": "object", "required": ["name", "compute_capability", "memory_mib", "driver", "bus_id"]},
        },
        "gpu_trouble": WORDS_OR_NONE,
        "jetson": {"type": ["object", "null"]},
        "jobs": {
            "type": "array",
            "items": {"required": ["name", "possible", "reason"], "properties": {"name": TEXT, "reason": TEXT}},
        },
        "missing": {
            "type": "array",
            "items": {"required": ["name", "gives", "how", "command"], "properties": {"name": TEXT, "gives": TEXT}},
        },
    },
}


def sections(text: str) -> dict[str, list[str]]:
    """The lines below each title."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.strip() in SECTIONS:
            found[line.strip()] = lines = []
        elif line[:1].strip():  # others continue the one above
            lines.append(line.rstrip())
    return found


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``machine(gpus, jetson, absent=[...], broken={...})`` is a machine that was made up."""

    def make(gpus: GpuSurvey, jetson: Jetson | None = None, absent: Any = (), broken: Any = None) -> None:
        def look_for(wanted: Wanted) -> Library:
            if wanted.name in absent:
                return Library(wanted, None, "not installed", installed=False)
            if wanted.name in (broken or {}):
                return Library(wanted, "1.0", f"can't be imported: {broken[wanted.name]}")
            return Library(wanted, "1.0", facts=WITH_CUDA.get(wanted.name, {}))

        monkeypatch.setattr(survey, "look_for", look_for)
        monkeypatch.setattr(survey, "find_gpus", lambda: gpus)
        monkeypatch.setattr(survey, "find_jetson", lambda: jetson)

    return make


def test_this_machine_for_real(attn_export: Command, contents: Callable[[], dict[str, bytes | None]]) -> None:
    before = contents()
    done = attn_export("doctor")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"(Looking at this machine \.\.\.\nLooking at this machine: \d+\.\d s\n)?", done.stderr)
    assert contents() == before
    found = sections(done.stdout)
    assert {"Machine", "Libraries", "GPU", "Possible here"} <= set(found)
    assert f"{sys.version_info.major}.{sys.version_info.minor}." in "\n".join(found["Machine"])
    for package in ("onnx", "onnx-ir", "onnxscript", "onnxruntime"):
        row = rf"^{package} +{re.escape(version(package))}( |$)"
        assert re.search(row, "\n".join(found["Libraries"]), re.MULTILINE)
    assert any(re.match(r"export to ONNX +yes ", line) for line in found["Possible here"])


def test_json_is_one_document_also_where_a_file_is_called_as_a_library_is(shell: Command, folder: Path) -> None:
    """The command itself has the folder on its path when it is run by `python -m`, so it says what it would find."""
    (folder / "tensorrt.py").write_text("raise RuntimeError('mine')")
    done = shell("doctor", "--json", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    validate(document, SCHEMA)
    libraries = {library["name"]: library for library in document["libraries"]}
    assert list(libraries) == [wanted.name for wanted in WANTED]
    assert libraries["torch"]["works"]
    assert set(libraries["torch"]) >= {"cuda", "usable"}
    assert libraries["tensorrt"]["trouble"] == "can't be imported: RuntimeError: mine"
    assert document["jobs"][0] == {
        "name": "export to ONNX",
        "possible": True,
        "reason": "torch, onnx, onnx-ir, onnxscript, onnxruntime work",
    }


def test_a_made_up_machine_without_anything(attn_export: Command, machine: Callable[..., None]) -> None:
    machine(GpuSurvey(trouble="there is no libcuda.so.1"), absent=[wanted.name for wanted in WANTED])
    done = attn_export("doctor")
    assert done.returncode == 0, done.stderr
    found = sections(done.stdout)
    assert all(line.endswith("not installed") for line in found["Libraries"][1:])
    assert all(re.search(r"  no  ", line) for line in found["Possible here"][1:])
    assert found["GPU"] == ["there is no libcuda.so.1"]
    assert "→ pip install 'attn-export[rtx]'" in done.stdout
    assert "→ pip install 'attn-export[tensorrt]'" in done.stdout
    validate(json.loads(attn_export("doctor", "--json").stdout), SCHEMA)


def test_a_made_up_workstation(attn_export: Command, machine: Callable[..., None]) -> None:
    card = Gpu("NVIDIA GeForce RTX 4090 [odd]", "8.9", 24564, "570.124.06")
    machine(GpuSurvey((card, Gpu("NVIDIA T400", "7.5"))))
    done = attn_export("doctor")
    found = sections(done.stdout)
    assert "Not here" not in found
    assert re.split(r"  +", found["GPU"][1]) == ["NVIDIA GeForce RTX 4090 [odd]", "8.9", "24564 MiB", "570.124.06"]
    assert re.split(r"  +", found["GPU"][2]) == ["NVIDIA T400", "7.5", "—", "—"]
    assert not any("  no  " in line for line in found["Possible here"])
    document = json.loads(attn_export("doctor", "--json").stdout)
    validate(document, SCHEMA)
    assert document["missing"] == []


def test_a_made_up_jetson(attn_export: Command, machine: Callable[..., None]) -> None:
    machine(GpuSurvey(trouble="none listed"), Jetson("NVIDIA Jetson Orin Nano", "36.4.3"), ["tensorrt", "tensorrt-rtx"])
    done = attn_export("doctor")
    assert re.search(r"^Jetson +NVIDIA Jetson Orin Nano, L4T 36\.4\.3, JetPack 6 *$", done.stdout, re.MULTILINE)
    assert "→ sudo apt-get install python3-libnvinfer" in done.stdout
    assert "attn-export[tensorrt]" not in done.stdout
    assert json.loads(attn_export("doctor", "--json").stdout)["jetson"] == {
        "model": "NVIDIA Jetson Orin Nano",
        "l4t": "36.4.3",
        "jetpack": "JetPack 6",
    }


def test_a_library_that_is_there_and_broken_is_reported_apart(
    attn_export: Command, machine: Callable[..., None]
) -> None:
    machine(GpuSurvey(), broken={"tensorrt": "libnvinfer.so.10: cannot open shared object file"})
    done = attn_export("doctor")
    assert done.returncode == 0
    (line,) = [line for line in sections(done.stdout)["Libraries"] if line.startswith("tensorrt ")]
    assert line.endswith("can't be imported: libnvinfer.so.10: cannot open shared object file")


@pytest.mark.parametrize("width", ["60", "80", "200"])
def test_columns_line_up_at_every_width(
    width: str, attn_export: Command, machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    machine(GpuSurvey(trouble="there is no libcuda.so.1"), absent=["tensorrt"])
    done = attn_export("doctor")
    lines = sections(done.stdout)["Libraries"]
    start = lines[0].index("version")
    assert all(line[start - 1] == " " and line[start] != " " for line in lines[1:] if "1.0" in line)
