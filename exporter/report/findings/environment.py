"""The machine and the software of a run, and how to reproduce it."""

import shlex

from attn_export.exporter.records.latency import Schedule
from attn_export.exporter.records.report import (
    ArtifactRecord,
    BundleRecord,
    EngineSummary,
    ModelRecord,
    OnnxRecord,
    Report,
)
from attn_export.exporter.report.findings.table import Table, table
from attn_export.exporter.report.findings.words import counted, listed, percent, seconds, size
from attn_export.exporter.system.gpus import Gpu

MOST_NAMED = 2
MOST_CPUS = 16  # named one by one


def command_line(report: Report) -> str:
    """The command, quoted for a shell; empty for a call from Python."""
    return shlex.join(report.command or ())


def network_words(report: Report) -> str:
    """The network and its inputs, ``cbam_resnet50, input 3×224×224``; empty without a checkpoint."""
    return f"{report.model.name}, {listed([str(taken) for taken in report.model.inputs])}" if report.model else ""


def title_of(report: Report) -> str:
    """The checkpoint or the network; without one the artifacts."""
    if report.model:
        return _last(report.model.checkpoint) or report.model.name
    names = [_last(artifact.path) for artifact in report.artifacts]
    if not names:
        return "attn-export"
    return listed(names) if len(names) <= MOST_NAMED else f"{names[0]} and {len(names) - 1} more"


def _last(path: str | None) -> str:
    return (path or "").replace("\\", "/").rstrip("/").rpartition("/")[2]


def machine_table(report: Report) -> Table:
    """The machine, and the share of it that the runtimes had."""
    environment, latency = report.environment, report.latency
    rows = {
        "platform": environment.platform,
        "Python": environment.python,
        "CPU": environment.cpu,
        "usable CPUs": str(environment.cpus),
        **{f"GPU {i}": _gpu(gpu) for i, gpu in enumerate(environment.gpus)},
        "threads of every runtime": str(latency.threads),
        "CPU affinity": cpus_words(latency.cpus),
        "requested precision": _requested(latency.schedule) if latency.timings else "",
    }
    return table("The machine", ["machine", "<value"], [[name, text] for name, text in rows.items() if text])


def cpus_words(cpus: tuple[int, ...]) -> str:
    """``CPUs 0 and 1``; of many only their number."""
    if len(cpus) > MOST_CPUS:
        return counted(len(cpus), "CPU")
    return f"CPU{'s' if len(cpus) > 1 else ''} {listed([str(cpu) for cpu in cpus])}" if cpus else ""


def _gpu(gpu: Gpu) -> str:
    facts = (("{} MiB", gpu.memory_mib), ("driver {}", gpu.driver), ("compute capability {}", gpu.compute_capability))
    return ", ".join([gpu.name, *(form.format(value) for form, value in facts if value is not None)])


def _requested(schedule: Schedule) -> str:
    width, confidence = percent(schedule.interval), percent(schedule.confidence)
    return f"ratios to ±{width} at {confidence} confidence, within {seconds(schedule.seconds)}"


def package_table(report: Report) -> Table | None:
    """Versions; None where they are unknown."""
    rows = [[name, version] for name, version in report.environment.packages.items() if version]
    return table("Packages", ["package", "<version"], rows) if rows else None


def file_table(report: Report) -> Table | None:
    """The checkpoint and all artifacts with their hashes; None without any."""
    model, rows = report.model, []
    if model and model.sha256:
        name = _last(model.checkpoint) or f"weights of {model.name}"
        rows.append([name, _architecture(model), "", model.sha256])
    rows += [
        [a.path, _described(a), "" if isinstance(a, OnnxRecord) else size(a.bytes), a.sha256] for a in report.artifacts
    ]
    return table("Files", ["file", "<content", "size", "<sha256"], rows) if rows else None


def _architecture(model: ModelRecord) -> str:
    values = dict(model.architecture or {})
    values |= values.pop("form", None) or {}
    known = (f"{key} {value}" for key, value in values.items() if value)
    return "checkpoint: " + ", ".join([model.name, *known])


def _described(artifact: ArtifactRecord) -> str:
    if isinstance(artifact, BundleRecord):
        return "deployment bundle"
    if isinstance(artifact, EngineSummary):
        gpus = f" for {listed(artifact.gpus)}" if artifact.gpus else ""
        return f"engine, {artifact.backend.name} {artifact.backend.version}{gpus}"
    return f"onnx, opset {artifact.opset}, {counted(artifact.nodes, 'node')}"


def notes_of(report: Report) -> list[str]:
    """Notes about how files were read."""
    notes = list(report.model.notes) if report.model else []
    return notes + [f"{a.path}: {note}" for a in report.runnable for note in a.notes]
