"""What a record says about the conditions under which latencies were taken."""

from collections.abc import Sequence
from typing import Any

from attn_export.exporter.records.timing_warnings import BACKGROUND_LOAD, STEAL, THROTTLED
from attn_export.exporter.report.findings.latency import by_batch, labels_of
from attn_export.exporter.report.findings.table import BAD, PLAIN, UNSURE, Cell, Table, table
from attn_export.exporter.report.findings.words import SPACE, counted, listed, percent, plus_minus, seconds, size

# The 90th percentile of an idle machine lies within a few percent of the median.
RESTLESS = 1.5
MOST_CPUS = 16  # that are named one by one


def condition_cautions(record: dict[str, Any]) -> list[str]:
    """What speaks against relying on the figures, most serious first; none is best."""
    latency, found = record["latency"], []
    for run in latency.get("runs", ()):
        batch, conditions = run["batch"], run.get("conditions") or {}
        if not run["reached"]:
            found.append(
                f"Batch {batch}: the interval that was asked for, ±{percent(latency['asked']['interval'])}, was not "
                f"reached in {seconds(run['seconds'])}; it is {plus_minus(run['interval'])}."
                if run["interval"] is not None
                else f"Batch {batch}: there were too few rounds for an interval."
            )
        for gpu in conditions.get("gpus") or ():
            if gpu["throttling"]:
                found.append(f"Batch {batch}: {gpu['name']} was slowed down by {listed(gpu['throttling'])}.")
            if gpu["others"]:
                found.append(f"Batch {batch}: {_others_on(gpu)}.")
        if (conditions.get("others") or 0) > BACKGROUND_LOAD:
            found.append(f"Batch {batch}: other processes took {percent(conditions['others'])} of the CPU time.")
        if (conditions.get("steal") or 0) > STEAL:
            found.append(f"Batch {batch}: the hypervisor took {percent(conditions['steal'])} of the CPU time.")
        if (conditions.get("throttled") or 0) > THROTTLED:
            found.append(
                f"Batch {batch}: the quota of {conditions['quota']:g} CPUs was used up in "
                f"{percent(conditions['throttled'])} of its periods."
            )
    for batch, timings in by_batch(record).items():
        labels = labels_of(timings)
        restless = [label for t, label in zip(timings, labels, strict=True) if t["p90_ms"] > RESTLESS * t["median_ms"]]
        unstable = [label for t, label in zip(timings, labels, strict=True) if not t["warm_up"]["stable"]]
        if restless:
            found.append(f"Batch {batch}: the latencies of {listed(restless)} vary a lot: p90 is far from the median.")
        if unstable:
            found.append(f"Batch {batch}: the warm-up of {listed(unstable)} ended before the times were stable.")
    return found


def _others_on(gpu: dict[str, Any]) -> str:
    using = [_process(other) for other in gpu["others"]]
    word = "process" if len(using) == 1 else "processes"
    return f"other {word} on {gpu['name']} while it was timed: {listed(using)}"


def _process(other: dict[str, Any]) -> str:
    """Its number, and how much of the GPU's memory it has."""
    taken = other.get("memory_mib")
    return str(other["pid"]) if taken is None else f"{other['pid']} ({size(taken * 2**20)})"


def conditions_sentences(record: dict[str, Any]) -> list[str]:
    """How each batch was timed, and what the machine was doing."""
    latency = record["latency"]
    cpus = latency.get("cpus") or []
    where = f" on {_cpus(cpus)}" if cpus else ""
    said = [
        f"Timed is {latency['timed']}." if latency.get("timed") else "",
        f"Every runtime had {counted(latency['threads'], 'thread')}{where}.",
        "The runtimes took turns in random order, so what disturbed the machine hit all of them alike.",
    ]
    runs = latency.get("runs") or []
    if len(runs) == 1:
        said.append(_run_sentence(runs[0], latency["asked"]))
    return [sentence for sentence in said if sentence]


def _cpus(cpus: Sequence[int]) -> str:
    if len(cpus) > MOST_CPUS:
        return counted(len(cpus), "CPU")
    return f"CPU{'s' if len(cpus) > 1 else ''} {listed([str(cpu) for cpu in cpus])}"


def _run_sentence(run: dict[str, Any], asked: dict[str, Any]) -> str:
    rounds, inferences = counted(run["rounds"], "round"), counted(run["inferences"], "inference")
    how_long = f"{seconds(run['seconds'])}{_reached(run, asked)}"
    return (
        f"Batch {run['batch']}: {rounds} of {inferences} in {how_long}. {_machine(run.get('conditions') or {})}".strip()
    )


def _reached(run: dict[str, Any], asked: dict[str, Any]) -> str:
    if run["interval"] is None or not run["reached"]:
        return ""
    known, wanted = plus_minus(run["interval"]), plus_minus(asked["interval"])
    return f", until the ratios were known to {known} ({wanted} was asked for)"


def _machine(conditions: dict[str, Any]) -> str:
    parts = []
    if conditions.get("load") is not None:
        parts.append(f"the load was {conditions['load']:.1f} when it began")
    if conditions.get("others") is not None:
        parts.append(f"other processes took {percent(conditions['others'])} of the CPU time")
    if conditions.get("steal") is not None:
        parts.append(f"the hypervisor took {percent(conditions['steal'])}")
    if conditions.get("quota") is not None:
        parts.append(f"a quota grants {conditions['quota']:g} CPUs")
    if clocks := _clocks(conditions.get("mhz")):
        parts.append(f"the CPU clock was {clocks}{SPACE}MHz")
    if conditions.get("governor"):
        parts.append(f"the governor is {conditions['governor']}")
    said = listed(parts)
    return f"{said[0].upper()}{said[1:]}." if said else ""


def run_table(record: dict[str, Any]) -> Table | None:
    """The same where there were several batches, one in a row; None for one, of which the sentences tell."""
    runs = record["latency"].get("runs") or []
    if len(runs) < 2:
        return None
    heads = "batch,rounds,inferences in each,took,interval,load,others' CPU,steal,CPU MHz,<governor".split(",")
    rows: list[list[str | Cell]] = []
    for run in runs:
        conditions = run.get("conditions") or {}
        width = "" if run["interval"] is None else plus_minus(run["interval"])
        rows.append(
            [
                str(run["batch"]),
                str(run["rounds"]),
                str(run["inferences"]),
                seconds(run["seconds"]),
                Cell(width, PLAIN if run["reached"] else UNSURE),
                "" if conditions.get("load") is None else f"{conditions['load']:.1f}",
                *("" if conditions.get(key) is None else percent(conditions[key]) for key in ("others", "steal")),
                _clocks(conditions.get("mhz")),
                conditions.get("governor") or "",
            ]
        )
    return table("How each batch was timed", heads, rows)


def _clocks(mhz: Sequence[float] | None) -> str:
    if not mhz:
        return ""
    low, high = min(mhz), max(mhz)
    return f"{low:.0f}" if high - low < 1 else f"{low:.0f} to {high:.0f}"


def gpu_table(record: dict[str, Any]) -> Table | None:
    """The GPUs while they were timed, smallest, middle and largest; None where none was used."""
    rows: list[list[str | Cell]] = []
    for run in record["latency"].get("runs", ()):
        for gpu in (run.get("conditions") or {}).get("gpus") or ():
            throttled, shared = listed(gpu["throttling"]), len(gpu["others"])
            rows.append(
                [
                    f"batch {run['batch']}, GPU {gpu['index']}",
                    gpu["name"],
                    _three(gpu["clock_mhz"]),
                    _three(gpu["memory_clock_mhz"]),
                    _three(gpu["temperature_c"]),
                    _three(gpu["power_w"]),
                    Cell(throttled or "no", BAD if throttled else PLAIN),
                    Cell(str(shared), BAD if shared else PLAIN),
                ]
            )
    if not rows:
        return None
    heads = ["run", "<GPU", "clock MHz", "memory MHz", "°C", "W", "<slowed down by", "other processes"]
    return table("The GPU while it was timed: smallest, middle, largest", heads, rows)


def _three(values: Sequence[float] | None) -> str:
    return "" if not values else " · ".join(f"{value:.0f}" for value in values)
