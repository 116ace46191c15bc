"""The CPU quota of a control group, as set by ``docker run --cpus 1.5``, and its throttling.

Version 2: https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files
Version 1: https://docs.kernel.org/scheduler/sched-bwc.html
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

GROUPS = "proc/self/cgroup"
MOUNT = "sys/fs/cgroup"
CONTROLLER = "cpu"


@dataclass(frozen=True)
class Quota:
    """The tightest quota of this process's groups.

    Attributes:
        cpus: seconds of CPU time for each second; 1.5 are one CPU and a half.
        periods: in which its processes wanted to run, so far.
        throttled: of these, in how many they used up what they had and had to wait for the next.
    """

    cpus: float
    periods: int
    throttled: int


def cpu_quota(root: Path = Path("/")) -> Quota | None:
    """The quota; None without a limit or control groups.

    /proc and /sys are in ``root``.
    """
    found = [quota for folder in _folders(root) if (quota := _read(folder)) is not None]
    return min(found, key=lambda quota: quota.cpus, default=None)


def _folders(root: Path) -> list[Path]:
    """The group's folder and those around it; in a container the outermost may be all that is there."""
    folders: dict[Path, None] = {}
    for line in _text(root / GROUPS).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        unified = number == "0" and not controllers
        if not unified and CONTROLLER not in controllers.split(","):
            continue
        mounts = [root / MOUNT] if unified else [root / MOUNT / controllers, root / MOUNT / CONTROLLER]
        inner = PurePosixPath(path.strip("/"))
        if ".." not in inner.parts:
            folders |= {mount / place: None for mount in mounts for place in (inner, *inner.parents)}
    return list(folders)


def _read(folder: Path) -> Quota | None:
    """One group's limit, in either version's files."""
    granted, period = [*_text(folder / "cpu.max").split(), "", ""][:2]
    if not granted:
        granted, period = (_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    if not (_counts(granted) and _counts(period)):  # "max", or -1: there is none
        return None
    pairs = (line.split() for line in _text(folder / "cpu.stat").splitlines())
    counts = {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}
    return Quota(int(granted) / int(period), counts.get("nr_periods", 0), counts.get("nr_throttled", 0))


def _counts(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 20 and int(text) > 0


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except (OSError, ValueError):
        return ""
