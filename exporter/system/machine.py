"""The machine itself: operating system, processor, memory."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from attn_export.exporter.system.quota import cpu_quota

KIB, GIB = 2**10, 2**30


@dataclass(frozen=True)
class Memory:
    """Main memory in bytes; None where the system doesn't say."""

    total: int | None
    available: int | None


def cpu_name() -> str:
    """The processor as the operating system calls it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def usable_cpus(root: Path = Path("/")) -> int:
    """How many CPUs this process can keep busy: of those that it may use, no more than its group's quota pays for.

    With more threads than that a quota makes all of them wait for the rest of its period, again and again.

    Args:
        root: where /proc and /sys are.
    """
    quota = cpu_quota(root)
    there = len(usable_cpu_numbers())
    return there if quota is None else max(1, min(there, int(quota.cpus)))


def usable_cpu_numbers() -> tuple[int, ...]:
    """Which these are, ascending; all of them where the system doesn't know of choosing."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def operating_system() -> str:
    """The distribution where there is one, with the kernel."""
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        name = ""
    return f"{name}, {platform.platform()}" if name else platform.platform()


def memory(meminfo: Path = Path("/proc/meminfo")) -> Memory:
    """How much there is, and how much a new process could have."""
    found = {}
    try:
        for line in meminfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key in ("MemTotal", "MemAvailable") and (number := value.split()[:1]) and number[0].isdecimal():
                found[key] = int(number[0]) * KIB
    except OSError:
        pass
    return Memory(found.get("MemTotal") or _pages(), found.get("MemAvailable"))


def _pages() -> int | None:
    """The total where there is no /proc: macOS."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
