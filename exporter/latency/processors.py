"""What the system says of its CPUs and of who uses them: Linux, from /proc and /sys; None where it doesn't say.

proc_stat(5), proc_pid_stat(5): https://man7.org/linux/man-pages/man5/proc_stat.5.html
"""

import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

CPUFREQ = "sys/devices/system/cpu/cpu{}/cpufreq/{}"
KHZ_PER_MHZ = 1e3
MOST_DIGITS = 20  # of 64 bits
# The columns of /proc/stat. What runs in guests is counted in `user` as well, so those columns are left out.
USER, NICE, SYSTEM, IDLE, IOWAIT, IRQ, SOFTIRQ, STEAL = range(8)


@dataclass(frozen=True)
class Ticks:
    """What CPUs did since the machine was started, in clock ticks, summed over them.

    Attributes:
        busy: at work, for whomever.
        steal: ready to work, while the hypervisor let somebody else have the CPU.
        total: these, and idle.
    """

    busy: int
    steal: int
    total: int


@dataclass(frozen=True)
class Process:
    """A process, and the ticks that it and those of its children that have ended used since they began."""

    pid: int
    parent: int
    ticks: int


def ticks_of(stat: str, cpus: Collection[int]) -> Ticks | None:
    """Read /proc/stat.

    Args:
        stat: its text.
        cpus: whose ticks are wanted.

    Returns:
        None where it doesn't tell of each of them: a container may number CPUs in its own way.
    """
    found: dict[int, list[int]] = {}
    for line in stat.splitlines():
        name, *columns = line.split() or [""]
        number = name.removeprefix("cpu")
        if name != number and _is_number(number) and all(map(_is_number, columns)):
            found[int(number)] = [*map(int, columns), 0, 0, 0, 0][: STEAL + 1]
    if not cpus or not set(cpus) <= set(found) or any(len(found[cpu]) <= STEAL for cpu in cpus):
        return None
    busy = sum(found[cpu][i] for cpu in cpus for i in (USER, NICE, SYSTEM, IRQ, SOFTIRQ))
    steal = sum(found[cpu][STEAL] for cpu in cpus)
    return Ticks(busy, steal, busy + steal + sum(found[cpu][i] for cpu in cpus for i in (IDLE, IOWAIT)))


def process_of(stat: str) -> Process | None:
    """Read /proc/<pid>/stat; None where it has another form."""
    # The program's name stands in parentheses and may hold blanks and parentheses itself.
    pid, _, rest = stat.partition(" (")
    fields = rest.rpartition(")")[2].split()
    numbers = [pid.strip(), *fields[1:2], *fields[11:15]]
    if len(numbers) != 6 or not all(map(_is_number, numbers)):
        return None
    own, parent, *ticks = map(int, numbers)
    return Process(own, parent, sum(ticks))


def family_of(pid: int, processes: Collection[Process]) -> dict[int, int]:
    """A process and its descendants that live, with the ticks of each."""
    children: dict[int, list[Process]] = {}
    for process in processes:
        children.setdefault(process.parent, []).append(process)
    found: dict[int, int] = {}
    waiting = [process for process in processes if process.pid == pid]
    while waiting:
        process = waiting.pop()
        if process.pid not in found:
            found[process.pid] = process.ticks
            waiting += children.get(process.pid, [])
    return found


def clocks_of(cpuinfo: str) -> dict[int, float]:
    """The MHz of each CPU that /proc/cpuinfo tells of. ARM's doesn't."""
    found: dict[int, float] = {}
    cpu: int | None = None
    for line in cpuinfo.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "processor":
            cpu = int(value) if _is_number(value) else None
        elif key == "cpu MHz" and cpu is not None:
            with suppress(ValueError):
                found[cpu] = float(value)
    return {cpu: mhz for cpu, mhz in found.items() if 0 < mhz < float("inf")}


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS


def text_of(path: Path) -> str:
    """A file's text, empty where it can't be read."""
    try:
        return path.read_text(errors="replace")
    except (OSError, ValueError):
        return ""


def ticks(cpus: Collection[int], root: Path = Path("/")) -> Ticks | None:
    """What these CPUs did so far."""
    return ticks_of(text_of(root / "proc/stat"), cpus)


def family(root: Path = Path("/")) -> Mapping[int, int]:
    """Our own process and its descendants, with the ticks of each; nothing where there is no /proc."""
    try:
        places = [place for place in (root / "proc").iterdir() if _is_number(place.name)]
    except OSError:
        return {}
    read = (process_of(text_of(place / "stat")) for place in places)
    return family_of(os.getpid(), [process for process in read if process is not None])


def clocks(cpus: Collection[int], root: Path = Path("/")) -> tuple[float, ...] | None:
    """The MHz at which each of these runs now, in their order; None where one of them isn't known."""
    told = [text_of(root / CPUFREQ.format(cpu, "scaling_cur_freq")).strip() for cpu in cpus]
    if told and all(_is_number(khz) and int(khz) for khz in told):
        return tuple(round(int(khz) / KHZ_PER_MHZ, 1) for khz in told)
    found = clocks_of(text_of(root / "proc/cpuinfo"))
    return tuple(round(found[cpu], 1) for cpu in cpus) if cpus and set(cpus) <= set(found) else None


def governor(cpus: Collection[int], root: Path = Path("/")) -> str | None:
    """What chooses these CPUs' clocks: "performance"; several, with commas, where they differ."""
    told = {text_of(root / CPUFREQ.format(cpu, "scaling_governor")).strip() for cpu in cpus} - {""}
    return ", ".join(sorted(told)) or None


def load() -> float | None:
    """How many processes ran or wanted to, over the last minute."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None
