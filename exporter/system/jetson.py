"""Whether this machine is a Jetson, and the release of its Linux, L4T.

L4T releases of each JetPack: https://developer.nvidia.com/embedded/jetpack-archive
"""

import re
from dataclasses import dataclass
from pathlib import Path

JETPACKS = {"32": "JetPack 4", "34": "JetPack 5", "35": "JetPack 5", "36": "JetPack 6", "38": "JetPack 7"}


@dataclass(frozen=True)
class Jetson:
    """A Jetson.

    Attributes:
        l4t: such as 36.4.3, None where the release file is missing: in containers.
    """

    model: str
    l4t: str | None

    @property
    def jetpack(self) -> str | None:
        """The JetPack of the release, None for an unknown one."""
        return JETPACKS.get(self.l4t.partition(".")[0]) if self.l4t else None


def find_jetson(root: Path = Path("/")) -> Jetson | None:
    """The Jetson that this machine is, by its board's name and its release file; None on any other machine."""
    model = _text(root / "proc/device-tree/model").strip("\0 \n")
    release = _text(root / "etc/nv_tegra_release")
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", release)
    if not found and not re.search(r"jetson|tegra|nvidia.*(orin|xavier|thor)", model, re.IGNORECASE):
        return None
    return Jetson(model or "unknown Jetson", f"{found[1]}.{found[2]}" if found else None)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
