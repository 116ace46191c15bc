"""Conditions under which latencies were taken."""

from collections.abc import Sequence

from attn_export.exporter.records.latency import Conditions, GpuConditions, Latency, Run
from attn_export.exporter.records.timing_warnings import latency_warnings
from attn_export.exporter.report.findings.environment import cpus_words
from attn_export.exporter.report.findings.table import BAD, PLAIN, UNSURE, Cell, Table, table
from attn_export.exporter.report.findings.words import counted, listed, percent, plus_minus, seconds


def warning_sentences(latency: Latency) -> list[str]:
    """The warnings that were printed while the latencies were taken."""
    return [f"{warning[0].upper()}{warning[1:]}." for warning in latency_warnings(latency)]


def condition_sentences(latency: Latency) -> list[str]:
    """How the latencies were taken."""
    where = f" on {cpus_words(latency.cpus)}" if latency.cpus else ""
    return [
        f"A latency is {latency.timed}.",
        f"Every runtime had {counted(latency.threads, 'thread')}{where}.",
        "The runs were interleaved in random order, so a disturbance of the machine affects all runtimes alike.",
    ]


def _percent(share: float | None) -> str | None:
    return None if share is None else percent(share)


def _clocks(mhz: Sequence[float] | None) -> str:
    if not mhz:
        return ""
    low, high = min(mhz), max(mhz)
    return f"{low:.0f}" if high - low < 1 else f"{low:.0f} to {high:.0f}"


def run_table(latency: Latency) -> Table | None:
    """One row for each batch; None without any."""
    heads = (
        "batch,rounds,inferences per round,time,half-width,load,background load,steal time,CPU quota,CPU MHz,<governor"
    )
    rows = [_run_row(run) for run in latency.runs]
    return table("Rounds and conditions of each batch", heads.split(","), rows) if rows else None


def _run_row(run: Run) -> list[str | Cell]:
    conditions = run.conditions or Conditions()
    return [
        str(run.batch),
        str(run.rounds),
        str(run.inferences),
        seconds(run.seconds),
        Cell(plus_minus(run.interval), PLAIN if run.reached else UNSURE),
        "" if conditions.load is None else f"{conditions.load:.1f}",
        _percent(conditions.others) or "",
        _percent(conditions.steal) or "",
        "" if conditions.quota is None else f"{conditions.quota:g}",
        _clocks(conditions.mhz),
        conditions.governor or "",
    ]


def gpu_table(latency: Latency) -> Table | None:
    """The state of the GPUs during each batch; None without a GPU."""
    rows = [
        _gpu_row(f"batch {run.batch}, GPU {gpu.index}", gpu)
        for run in latency.runs
        for gpu in (run.conditions or Conditions()).gpus
    ]
    heads = ["run", "<GPU", "clock MHz", "memory MHz", "°C", "W", "<throttled by", "other processes"]
    return table("GPU during the runs: min, median, max", heads, rows) if rows else None


def _gpu_row(name: str, gpu: GpuConditions) -> list[str | Cell]:
    ranges = (gpu.clock_mhz, gpu.memory_clock_mhz, gpu.temperature_c, gpu.power_w)
    throttled, shared = listed(gpu.throttling), len(gpu.others)
    return [
        name,
        gpu.name,
        *("" if values is None else " · ".join(f"{value:.0f}" for value in values) for values in ranges),
        Cell(throttled or "no", BAD if throttled else PLAIN),
        Cell(str(shared), BAD if shared else PLAIN),
    ]
