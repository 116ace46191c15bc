"""The warnings about a timing, with their thresholds: one list for standard error, the report and `compare`."""

from collections.abc import Sequence

from attn_export.exporter.records.latency import Conditions, GpuConditions, Latency, Run, Schedule, Timing

SMALL = 0.001  # a share that one decimal of a percent would round away
# Shares of the CPU time. An idle desktop takes 1 to 3 % of its CPUs, and ticks are counted to about one percent.
BACKGROUND_LOAD = 0.05
# On a quiet host there is no steal time. It comes in slices of milliseconds, which the slowest inferences show.
STEAL = 0.01
# Within its quota a process is never throttled; each time is a wait of up to a tenth of a second.
THROTTLED = 0.01
# A GPU that was warmed up keeps its clock within a few percent; latencies follow it one to one.
STEADY_CLOCK = 0.9
# The 90th percentile of an idle machine lies within a few percent of the median.
RESTLESS = 1.5


def latency_warnings(latency: Latency) -> list[str]:
    """All warnings about the timings of a record, a sentence each, which begins with the batch."""
    return [
        warning if warning.startswith(f"batch {run.batch}: ") else f"batch {run.batch}: {warning}"
        for run in latency.runs
        for warning in timing_warnings([t for t in latency.timings if t.batch == run.batch], run, latency.schedule)
    ]


def timing_warnings(timings: Sequence[Timing], run: Run, schedule: Schedule) -> list[str]:
    """Warnings about one batch, a sentence each."""
    warnings = []
    if not run.reached:
        known = f"known to ±{run.interval:.1%}" if run.interval < 1 else "not even known to ±100%"
        what = "the median is" if len(timings) == 1 else "the ratios are"
        target = f"{schedule.interval:.1%}" if schedule.interval >= SMALL else f"{100 * schedule.interval:.2g}%"
        warnings.append(
            f"batch {run.batch}: after {run.seconds:.{0 if run.seconds >= 10 else 1}f} s {what} {known}, and "
            f"±{target} was asked for: this machine is too noisy for the time, so give it more, or quiet"
        )
    warnings += [
        f"{timing.runtime} was still getting faster when its warm-up of {timing.warm_up.seconds:.1f} s was over"
        for timing in timings
        if not timing.warm_up.stable
    ]
    warnings += [
        f"the latencies of {timing.runtime} vary a lot: p90 is {timing.p90_ms / timing.median_ms:.1f} times the median"
        for timing in timings
        if timing.p90_ms > RESTLESS * timing.median_ms
    ]
    return warnings + (condition_warnings(run.conditions) if run.conditions else [])


def condition_warnings(conditions: Conditions) -> list[str]:
    """Warnings about the machine, a sentence each; none where nothing is known."""
    warnings = []
    if conditions.others is not None and conditions.others > BACKGROUND_LOAD:
        warnings.append(f"other processes took {conditions.others:.0%} of the CPU time during the timing")
    if conditions.steal is not None and conditions.steal > STEAL:
        warnings.append(f"the hypervisor took {conditions.steal:.0%} of the CPU time during the timing")
    if conditions.quota is not None and (conditions.throttled or 0.0) > THROTTLED:
        warnings.append(
            f"the quota of {conditions.quota:g} CPUs was used up in {conditions.throttled:.0%} of its periods, and "
            "everything had to wait: fewer threads help"
        )
    for gpu in conditions.gpus:
        warnings += _of_gpu(gpu, f"GPU {gpu.index}" if len(conditions.gpus) > 1 else "the GPU")
    return [*warnings, *conditions.notes]


def _of_gpu(gpu: GpuConditions, name: str) -> Sequence[str]:
    warnings = []
    if gpu.throttling:
        warnings.append(f"{name} was throttled: {', '.join(gpu.throttling)}")
    elif gpu.clock_mhz is not None and gpu.clock_mhz[0] < STEADY_CLOCK * gpu.clock_mhz[2]:
        low, _, high = gpu.clock_mhz
        warnings.append(f"{name}'s clock moved between {low:.0f} and {high:.0f} MHz during the timing")
    if gpu.others:
        one = len(gpu.others) == 1
        warnings.append(f"{len(gpu.others)} other {'process uses' if one else 'processes use'} {name}")
    return warnings
