"""The conditions of a timing: background load and speed of the machine."""

import time
from pathlib import Path

from attn_export.exporter.latency import cpu_state
from attn_export.exporter.latency.cpu_state import CpuTimes
from attn_export.exporter.latency.gpu_state import GpuWatch
from attn_export.exporter.records.latency import Conditions
from attn_export.exporter.system.machine import usable_cpu_numbers
from attn_export.exporter.system.quota import Quota, cpu_quota

# CPU times have steps of a hundredth of a second: shares of less CPU time than this are mostly rounding.
MIN_CPU_SECONDS = 0.5


class Watch:
    """Observes the machine from `start` to `stop`, and GPUs at most once a second in between.

    ``root`` is that of the file system with the control groups.
    """

    def __init__(self, *, gpu: bool = False, root: Path = Path("/")) -> None:
        self._gpus = GpuWatch() if gpu else None
        self._root = root
        self._cpus: tuple[int, ...] = ()
        self._load: float | None = None
        self._before: CpuTimes | None = None
        self._ours_before = 0.0
        self._quota: Quota | None = None

    def start(self) -> None:
        """Begin, with open runtimes."""
        self._cpus = usable_cpu_numbers()
        self._load = cpu_state.load()
        if self._gpus is not None:
            self._gpus.open()
        self._before = cpu_state.cpu_times(self._cpus)
        self._ours_before = sum(cpu_state.process_times().values())
        self._quota = cpu_quota(self._root)

    def sample(self) -> None:
        """Sample the GPUs, at most once a second. Call it between rounds."""
        if self._gpus is not None:
            self._gpus.sample(time.monotonic())

    def stop(self) -> Conditions:
        """The conditions since `start`.

        Call it with open runtimes, so that their processes count as ours.
        """
        after = cpu_state.cpu_times(self._cpus)
        ours = cpu_state.process_times()
        others, steal = _shares(self._before, after, sum(ours.values()) - self._ours_before)
        gpus = self._gpus.close(ours) if self._gpus is not None else ()
        quota = cpu_quota(self._root)
        return Conditions(
            load=self._load,
            others=others,
            steal=steal,
            mhz=cpu_state.clocks(self._cpus),
            governor=cpu_state.governor(self._cpus),
            gpus=gpus,
            quota=quota.cpus if quota else None,
            throttled=_throttled(self._quota, quota),
            notes=self._gpus.notes if self._gpus is not None else (),
        )


def _shares(before: CpuTimes | None, after: CpuTimes | None, ours: float) -> tuple[float | None, float | None]:
    """Background load and steal time, 0..1; None if the counters don't advance enough, or run backwards."""
    if before is None or after is None or ours < 0:
        return None, None
    total = after.total - before.total
    busy, steal = after.busy - before.busy, after.steal - before.steal
    if total < MIN_CPU_SECONDS or busy < 0 or steal < 0:
        return None, None
    return round(max(0.0, busy - ours) / total, 4), round(steal / total, 4)


def _throttled(before: Quota | None, after: Quota | None) -> float | None:
    """The share of the quota's periods that were throttled, 0..1; None where no period ended."""
    if before is None or after is None or before.cpus != after.cpus or after.periods <= before.periods:
        return None
    return round(max(0, after.throttled - before.throttled) / (after.periods - before.periods), 4)
