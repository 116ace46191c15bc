"""Conditions under which latencies were taken."""

from collections.abc import Sequence

from attn_export.exporter.records.latency import Conditions, GpuConditions, Latency, Range, Run, Schedule
from attn_export.exporter.records.timing_warnings import latency_warnings
from attn_export.exporter.report.findings.environment import cpus_words
from attn_export.exporter.report.findings.table import BAD, PLAIN, UNSURE, Cell, Table, table
from attn_export.exporter.report.findings.words import SPACE, counted, listed, percent, plus_minus, seconds


def warning_sentences(latency: Latency) -> list[str]:
    """The warnings that were printed while the latencies were taken."""
    return [f"{warning[0].upper()}{warning[1:]}." for warning in latency_warnings(latency)]


def condition_sentences(latency: Latency) -> list[str]:
    """How the latencies were taken, and the state of the machine."""
    where = f" on {cpus_words(latency.cpus)}" if latency.cpus else ""
    sentences = [
        f"A latency is {latency.timed}.",
        f"Every runtime had {counted(latency.threads, 'thread')}{where}.",
        "The runs were interleaved in random order, so a disturbance of the machine affects all runtimes alike.",
    ]
    return [*sentences, *(_run_sentence(run, latency.schedule) for run in latency.runs[:1] if len(latency.runs) == 1)]


def _run_sentence(run: Run, schedule: Schedule) -> str:
    rounds, inferences = counted(run.rounds, "round"), counted(run.inferences, "inference")
    reached = ""
    if run.reached:
        reached = f", until the half-width was {plus_minus(run.interval)} (requested: {plus_minus(schedule.interval)})"
    machine = listed(_machine(run.conditions or Conditions()))
    machine = f" {machine[0].upper()}{machine[1:]}." if machine else ""
    return f"Batch {run.batch}: {rounds} of {inferences} in {seconds(run.seconds)}{reached}.{machine}"


def _machine(conditions: Conditions) -> list[str]:
    facts = (
        ("the load was {:.1f} at the start", conditions.load),
        ("the background load was {} of the CPU time", _percent(conditions.others)),
        ("the steal time was {}", _percent(conditions.steal)),
        ("the CPU quota is {:g} CPUs", conditions.quota),
        (f"the CPU clock was {{}}{SPACE}MHz", _clocks(conditions.mhz) or None),
        ("the governor is {}", conditions.governor or None),
    )
    return [form.format(value) for form, value in facts if value is not None]


def _percent(share: float | None) -> str | None:
    return None if share is None else percent(share)


def _clocks(mhz: Sequence[float] | None) -> str:
    if not mhz:
        return ""
    low, high = min(mhz), max(mhz)
    return f"{low:.0f}" if high - low < 1 else f"{low:.0f} to {high:.0f}"


def run_table(latency: Latency) -> Table | None:
    """One row for each batch; None for a single one, which `condition_sentences` describes."""
    if len(latency.runs) < 2:
        return None
    heads = "batch,rounds,inferences per round,time,half-width,load,background load,steal time,CPU MHz,<governor"
    return table("Rounds and conditions of each batch", heads.split(","), [_run_row(run) for run in latency.runs])


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
        *map(_three, ranges),
        Cell(throttled or "no", BAD if throttled else PLAIN),
        Cell(str(shared), BAD if shared else PLAIN),
    ]


def _three(values: Range | None) -> str:
    return "" if values is None else " · ".join(f"{value:.0f}" for value in values)
