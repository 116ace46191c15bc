"""Under what conditions latencies were taken: who else used the machine, and how fast it ran."""

import time
from pathlib import Path

from attn_export.exporter.latency import processors
from attn_export.exporter.latency.gpu_state import GpuWatch
from attn_export.exporter.latency.processors import Ticks
from attn_export.exporter.records.latency import Conditions, GpuConditions
from attn_export.exporter.system.machine import usable_cpu_numbers
from attn_export.exporter.system.quota import Quota, cpu_quota

# A run of fewer ticks (a hundredth of a second each, for each CPU) is too short to tell shares of it.
FEWEST_TICKS = 50


class Watch:
    """Looks on from `start` to `stop`, and at GPUs at most once a second in between.

    Args:
        gpu: whether something runs on a GPU.
        root: where /proc and /sys are.
    """

    def __init__(self, *, gpu: bool = False, root: Path = Path("/")) -> None:
        self._gpus = GpuWatch() if gpu else None
        self._root = root
        self._cpus: tuple[int, ...] = ()
        self._load: float | None = None
        self._before: Ticks | None = None
        self._own_before = 0
        self._quota: Quota | None = None
        self.notes: tuple[str, ...] = ()

    def start(self) -> None:
        """Begin. What is timed is open by now."""
        self._cpus = usable_cpu_numbers()
        self._load = processors.load()
        if self._gpus is not None:
            self._gpus.open()
        self._before = processors.ticks(self._cpus, self._root)
        self._own_before = sum(processors.family(self._root).values())
        self._quota = cpu_quota(self._root)

    def sample(self) -> None:
        """Look at the GPUs, if the last time was a second ago. To be called between turns, never in one."""
        if self._gpus is not None:
            self._gpus.sample(time.monotonic())

    def stop(self) -> Conditions:
        """How it was. What was timed is still open, so that its processes are known; ``notes`` tells what isn't."""
        after = processors.ticks(self._cpus, self._root)
        family = processors.family(self._root)
        others, steal = _shares(self._before, after, sum(family.values()) - self._own_before)
        gpus: tuple[GpuConditions, ...] = ()
        if self._gpus is not None:
            gpus = self._gpus.close(family)
            self.notes = self._gpus.notes
        mhz, governor = processors.clocks(self._cpus, self._root), processors.governor(self._cpus, self._root)
        quota = cpu_quota(self._root)
        granted = quota.cpus if quota else None
        return Conditions(self._load, others, steal, mhz, governor, gpus, granted, _held_back(self._quota, quota))


def _shares(before: Ticks | None, after: Ticks | None, own: int) -> tuple[float | None, float | None]:
    """Of others and of the hypervisor, 0..1; counters that stand still, run backwards or barely move tell nothing."""
    if before is None or after is None or own < 0:
        return None, None
    total = after.total - before.total
    busy, steal = after.busy - before.busy, after.steal - before.steal
    if total < FEWEST_TICKS or busy < 0 or steal < 0:
        return None, None
    return round(max(0, busy - own) / total, 4), round(steal / total, 4)


def _held_back(before: Quota | None, after: Quota | None) -> float | None:
    """The share of periods, 0..1; None where no quota ended a period meanwhile."""
    if before is None or after is None or before.cpus != after.cpus or after.periods <= before.periods:
        return None
    return round(max(0, after.throttled - before.throttled) / (after.periods - before.periods), 4)
