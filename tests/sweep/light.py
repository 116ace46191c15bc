"""Jobs that take no time, for tests of everything around the work. Workers import this file by its name."""

import os
import signal
import time
from pathlib import Path

from attn_export.exporter.artifacts import Input, LoadOptions
from attn_export.exporter.errors import DisagreementError
from attn_export.exporter.records.sweep import Figures, Outcome
from attn_export.exporter.report.sweep.live import Watch
from attn_export.exporter.sweep.cells import Grid, grid_of
from attn_export.exporter.sweep.job import Inputs, Job, Make
from attn_export.exporter.sweep.plan import Plan
from attn_export.exporter.system.machine import usable_cpu_numbers

LOG, SECONDS = "SWEEP_TEST_LOG", "SWEEP_TEST_SECONDS"


def run(job: Job, inputs: Inputs, folder: Path) -> Figures:
    """Write a file, or check that the files that are needed are there. What the model's file says decides the rest."""
    if log := os.environ.get(LOG):
        with Path(log).open("a") as stream:
            stream.write(f"{job.key}\n")
    time.sleep(float(os.environ.get(SECONDS, "0")))
    (source,) = inputs["model"] if "model" in inputs else inputs["onnx"]
    text = source.read_text()
    if isinstance(job.task, Make):
        (folder / "model.onnx").write_text(text)
        return Figures(agrees=True, error=1e-7, bytes=len(text), nodes=len(usable_cpu_numbers()))
    if text == "disagrees":
        raise DisagreementError(f"{job.name} differs")
    if text == "dies":
        os.write(1, b"out of luck\n")
        os.kill(os.getpid(), signal.SIGKILL)
    if text.startswith("waits for its end "):
        begun = Path(text.removeprefix("waits for its end "))
        if not begun.exists():
            begun.touch()
            time.sleep(3600)
    if text == "defect":
        raise ZeroDivisionError("oops")
    (folder / "latency.report.json").write_text("{}")
    cpus = len(usable_cpu_numbers())
    return Figures(latency_ms=float(job.task.batch), latency_low_ms=0.5, latency_high_ms=2.0, kernels=cpus)


def plan(folder: Path, **models: str) -> Plan:
    """A plan for ONNX files with these contents, by name."""
    for name, content in models.items():
        (folder / f"{name}.onnx").write_text(content)
    return Plan(models=tuple(f"{name}.onnx" for name in models), batches=(1, 2))


def grid(folder: Path, given: Plan) -> Grid:
    return grid_of(given, folder, lambda _: LoadOptions(inputs=(Input("input", (1, 3, 8, 8)),)))


class Log(Watch):
    """A watch that remembers."""

    def __init__(self) -> None:
        self.started_jobs: list[tuple[str, str]] = []
        self.ended: list[Outcome] = []
        self.lost_jobs: list[tuple[str, str]] = []
        self.counts = (0, 0)

    def begin(self, jobs: int, reused: int) -> None:
        self.counts = jobs, reused

    def started(self, name: str, node: str) -> None:
        self.started_jobs.append((name, node))

    def finished(self, outcome: Outcome) -> None:
        self.ended.append(outcome)

    def lost(self, name: str, node: str) -> None:
        self.lost_jobs.append((name, node))
