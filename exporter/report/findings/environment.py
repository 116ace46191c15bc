"""What a record says about where it was made, and how to make it again."""

import shlex
from typing import Any

from attn_export.exporter.report.findings.errors import artifacts_of
from attn_export.exporter.report.findings.table import Cell, Table, table
from attn_export.exporter.report.findings.words import counted, listed, percent, seconds, shape, size

MOST_NAMED = 2


def command_line(record: dict[str, Any]) -> str:
    """As it can be pasted into a shell; empty for a call from Python."""
    return shlex.join(str(word) for word in record.get("command") or [])


def network_words(record: dict[str, Any]) -> str:
    """The network and its input, ``cbam_resnet50, 3×224×224``; empty where there was no checkpoint."""
    model = record.get("model")
    return f"{model['name']}, input {shape(model['input_shape'])}" if model else ""


def title_of(record: dict[str, Any]) -> str:
    """The network that was asked about, or the files."""
    model = record.get("model")
    if model:
        return _last(model.get("checkpoint")) or str(model["name"])
    names = [_last(artifact["path"]) for artifact in artifacts_of(record)]
    if not names:
        return "attn-export"
    return listed(names) if len(names) <= MOST_NAMED else f"{names[0]} and {len(names) - 1} more"


def _last(path: str | None) -> str:
    return (path or "").replace("\\", "/").rstrip("/").rpartition("/")[2]


def machine_table(record: dict[str, Any]) -> Table:
    """The machine and how it was used."""
    environment, latency = record.get("environment") or {}, record.get("latency") or {}
    cpus = latency.get("cpus") or []
    rows = {
        "platform": environment.get("platform") or "",
        "Python": environment.get("python") or "",
        "CPU": environment.get("cpu") or "",
        "usable CPUs": "" if environment.get("cpus") is None else str(environment["cpus"]),
        **{f"GPU {i}": _gpu(gpu) for i, gpu in enumerate(environment.get("gpus") or [])},
        "threads of every runtime": "" if latency.get("threads") is None else str(latency["threads"]),
        "CPUs that it ran on": listed([str(cpu) for cpu in cpus]) if len(cpus) <= 32 else counted(len(cpus), "CPU"),
        "asked of the timing": _asked(latency.get("asked")) if latency.get("timings") else "",
    }
    return table("The machine", ["machine", "<value"], [[name, text] for name, text in rows.items() if text])


def _gpu(gpu: dict[str, Any]) -> str:
    words = {"memory_mib": "{} MiB", "driver": "driver {}", "compute_capability": "compute capability {}"}
    told = [form.format(gpu[key]) for key, form in words.items() if gpu.get(key) is not None]
    return ", ".join([str(gpu.get("name") or "a GPU"), *told])


def _asked(asked: dict[str, Any] | None) -> str:
    if not asked:
        return ""
    return (
        f"ratios to ±{percent(asked['interval'])} at {percent(asked['confidence'])} confidence, within "
        f"{seconds(asked['seconds'])}"
    )


def package_table(record: dict[str, Any]) -> Table | None:
    """Versions; None where they aren't known."""
    packages = (record.get("environment") or {}).get("packages") or {}
    rows = [[name, str(version)] for name, version in packages.items() if version]
    return table("Packages", ["package", "<version"], rows) if rows else None


def file_table(record: dict[str, Any]) -> Table | None:
    """The checkpoint and everything that was made, with hashes; None where there is neither."""
    model = record.get("model")
    rows: list[list[str | Cell]] = []
    if model and model.get("sha256"):
        rows.append(
            [_last(model.get("checkpoint")) or f"weights of {model['name']}", _architecture(model), "", model["sha256"]]
        )
    rows += [
        [a["path"], _made(a), "" if a.get("bytes") is None else size(a["bytes"]), a.get("sha256") or ""]
        for a in artifacts_of(record)
    ]
    return table("Files", ["file", "<what it is", "size", "<sha256"], rows) if rows else None


def _architecture(model: dict[str, Any]) -> str:
    known = model.get("architecture") or {}
    return "checkpoint: " + ", ".join([model["name"], *(f"{key} {value}" for key, value in known.items() if value)])


def _made(artifact: dict[str, Any]) -> str:
    if artifact["format"] == "bundle":
        return "deployment bundle"
    if artifact["format"] == "engine":
        backend = artifact.get("backend") or {}
        gpus = f" for {listed([str(gpu) for gpu in artifact.get('gpus') or []])}" if artifact.get("gpus") else ""
        return f"engine, {backend.get('name', '')} {backend.get('version', '')}{gpus}".strip()
    opset = f", opset {artifact['opset']}" if artifact.get("opset") else ""
    nodes = f", {counted(artifact['nodes'], 'node')}" if artifact.get("nodes") else ""
    return f"{artifact['format']}{opset}{nodes}"


def notes_of(record: dict[str, Any]) -> list[str]:
    """What was said about how files were read."""
    model = record.get("model") or {}
    own = [str(note) for note in model.get("notes") or []]
    return own + [f"{a['path']}: {note}" for a in artifacts_of(record) for note in a.get("notes") or []]
