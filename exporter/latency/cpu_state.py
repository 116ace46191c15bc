"""CPU times of the machine and of this process, clocks and governor; None if the system doesn't report them."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

CPUS = Path("/sys/devices/system/cpu")
KHZ_PER_MHZ = 1e3
# Time in guests is part of `user`.
BUSY, IDLE = ("user", "nice", "system", "irq", "softirq"), ("idle", "iowait")


@dataclass(frozen=True)
class CpuTimes:
    """CPU seconds since the machine was booted, summed over some CPUs.

    Attributes:
        busy: running any process or the kernel.
        steal: ready to run while the hypervisor ran other guests.
        total: busy, steal and idle.
    """

    busy: float
    steal: float
    total: float


def cpu_times(cpus: Collection[int]) -> CpuTimes | None:
    """The times of these CPUs; None if one isn't listed: containers may number CPUs differently."""
    try:
        listed = psutil.cpu_times(percpu=True)
    except (OSError, ValueError):
        return None
    # The list has no gaps, so with offline CPUs its indices aren't CPU numbers.
    if not cpus or max(cpus) >= len(listed) or "," in _text(CPUS / "online"):
        return None
    chosen = [listed[cpu] for cpu in cpus]
    busy, steal, idle = (
        sum(getattr(entry, name, 0.0) for entry in chosen for name in names) for names in (BUSY, ("steal",), IDLE)
    )
    return CpuTimes(busy, steal, busy + steal + idle)


def process_times() -> dict[int, float]:
    """CPU seconds of this process and its living descendants, by process id, each with its ended children's."""
    found: dict[int, float] = {}
    with suppress(OSError, psutil.Error):
        this = psutil.Process()
        for process in (this, *this.children(recursive=True)):
            with suppress(psutil.Error):
                found[process.pid] = sum(process.cpu_times()[:4])
    return found


def clocks(cpus: Sequence[int]) -> tuple[float, ...] | None:
    """The current MHz of each of these CPUs; None if one is unknown."""
    khz = [_cpufreq(cpu, "scaling_cur_freq") for cpu in cpus]
    mhz = [int(text) / KHZ_PER_MHZ for text in khz if text.isdecimal()]
    if len(mhz) < len(cpus):
        with suppress(AttributeError, NotImplementedError, OSError):
            listed = psutil.cpu_freq(percpu=True)
            mhz = [listed[cpu].current for cpu in cpus if cpu < len(listed)]
    return tuple(round(value, 1) for value in mhz) if cpus and len(mhz) == len(cpus) and all(mhz) else None


def governor(cpus: Collection[int]) -> str | None:
    """The governor of these CPUs' clocks: "performance"; several, with commas, if they differ."""
    return ", ".join(sorted({_cpufreq(cpu, "scaling_governor") for cpu in cpus} - {""})) or None


def load() -> float | None:
    """The length of the run queue, averaged over the last minute."""
    try:
        return float(psutil.getloadavg()[0])
    except (AttributeError, OSError):
        return None


def _cpufreq(cpu: int, name: str) -> str:
    return _text(CPUS / f"cpu{cpu}" / "cpufreq" / name)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except (OSError, ValueError):
        return ""
