"""The operating system, the processor and the memory of this machine."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import psutil

from attn_export.exporter.system.quota import cpu_quota


@dataclass(frozen=True)
class Memory:
    """Main memory in bytes; None where the system doesn't report it."""

    total: int | None
    available: int | None


def cpu_name() -> str:
    """The processor's model name, or its architecture."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def usable_cpus(root: Path = Path("/")) -> int:
    """The number of CPUs in this process's affinity, limited by the CPU quota of its control group.

    With more threads than the quota allows, all of them are throttled in every period.

    ``root`` is that of the file system with the control groups.
    """
    quota = cpu_quota(root)
    count = len(usable_cpu_numbers())
    return count if quota is None else max(1, min(count, int(quota.cpus)))


def usable_cpu_numbers() -> tuple[int, ...]:
    """The CPUs in this process's affinity, ascending; all CPUs on a system without affinity."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def operating_system() -> str:
    """The Linux distribution, if any, and the platform with its kernel."""
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        name = ""
    return f"{name}, {platform.platform()}" if name else platform.platform()


def memory() -> Memory:
    """The main memory, and how much of it a new process could have."""
    found = psutil.virtual_memory()
    return Memory(found.total, found.available)
