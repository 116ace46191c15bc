"""What /proc and /sys say on several machines, shortened to what matters, as files that are read in their place."""

from dataclasses import dataclass, field
from pathlib import Path

# Two CPUs of an AMD EPYC in a virtual machine; the kernel has no cpufreq there.
EPYC_STAT = """\
cpu  24580 0 4605 107719 440 0 65 9 0 0
cpu0 2865 0 1148 64590 41 0 13 2 0 0
cpu1 21714 0 3457 43129 398 0 51 6 0 0
intr 278156 0 0 0 0 0 0 0 0 0 0 0
ctxt 450180
btime 1795569006
processes 7743
procs_running 2
procs_blocked 0
softirq 96514 0 17323 3 11240 1 0 17 32512 2 35416
"""
EPYC_CPUINFO = """\
processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC
cpu MHz\t\t: 2596.120
cache size\t: 1024 KB
flags\t\t: fpu vme de pse tsc msr pae mce cx8
TLB size\t: 192 4K pages

processor\t: 1
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC
cpu MHz\t\t: 3092.871
cache size\t: 1024 KB
"""
# A Jetson Orin Nano: ARM tells no MHz in /proc/cpuinfo; cpufreq does.
JETSON_CPUINFO = """\
processor\t: 0
BogoMIPS\t: 62.50
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd42
CPU revision\t: 1

processor\t: 1
BogoMIPS\t: 62.50
CPU implementer\t: 0x41
CPU part\t: 0xd42
"""
JETSON_STAT = """\
cpu  18423 31 9921 1204412 812 3310 902 0 0 0
cpu0 4410 12 2650 200311 140 1500 610 0 0 0
cpu1 3820 9 1633 201208 133 420 80 0 0 0
"""
# Linux 2.4 knew four columns.
ANCIENT_STAT = "cpu  400 0 100 500\ncpu0 400 0 100 500\n"


@dataclass(frozen=True)
class Machine:
    """Files of a machine, by their paths below the root."""

    files: dict[str, str] = field(default_factory=dict)

    def at(self, root: Path) -> Path:
        for name, text in self.files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return root


def cpufreq(governors: str, khz: str) -> dict[str, str]:
    """For CPUs from 0 on: what is in these words."""
    folder = "sys/devices/system/cpu/cpu{}/cpufreq/"
    found = {folder.format(i) + "scaling_governor": f"{name}\n" for i, name in enumerate(governors.split())}
    return found | {folder.format(i) + "scaling_cur_freq": f"{number}\n" for i, number in enumerate(khz.split())}


EPYC = Machine({"proc/stat": EPYC_STAT, "proc/cpuinfo": EPYC_CPUINFO})
JETSON = Machine(
    {"proc/stat": JETSON_STAT, "proc/cpuinfo": JETSON_CPUINFO, **cpufreq("schedutil schedutil", "1510400 729600")}
)
DESKTOP = Machine(
    {
        "proc/stat": EPYC_STAT,
        "proc/cpuinfo": EPYC_CPUINFO,
        **cpufreq("performance powersave", "4699998 4700000"),
    }
)
BARE = Machine()
