"""How NVIDIA GPUs were while they were timed, as their driver tells it through NVML; whatever it doesn't tell is None.

NVML: https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html, and for what slows clocks down
https://docs.nvidia.com/deploy/nvml-api/group__nvmlClocksEventReasons.html
"""

import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from attn_export.exporter.errors import first_line
from attn_export.exporter.records.latency import GpuConditions, GpuProcess, Range
from attn_export.exporter.system import gpus

SECONDS_BETWEEN = 1.0
# NVML's numbers.
CLOCK_SM, CLOCK_MEMORY, SENSOR = 1, 2, 0
REASONS = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
PROCESSES = ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetMPSComputeRunningProcesses")
MIB = 2**20
# Bits of NVML's clock event reasons. Idle, boost groups, the display's clock and a clock that somebody chose are no
# throttling.
CHOSEN_CLOCK, HW_SLOWDOWN = 0x2, 0x8
THROTTLING = {
    0x4: "power cap",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}
# The general bit is also set for a moment when a clock changes, so alone and once it means nothing.
OFTEN = 2
# What is kept of each sample, and its name in words.
WORDS = {
    "clock_mhz": "its clock",
    "memory_clock_mhz": "its memory's clock",
    "temperature_c": "its temperature",
    "power_w": "its power",
}


@dataclass
class _Seen:
    """What was seen of one GPU so far."""

    index: int
    name: str
    handle: Any
    values: dict[str, list[float]] = field(default_factory=lambda: {key: [] for key in WORDS})
    reasons: list[int] = field(default_factory=list)
    processes: dict[int, int | None] = field(default_factory=dict)  # MiB by number


class GpuWatch:
    """Samples the GPU that CUDA calls its first, where everything here runs; all GPUs where that one can't be told.

    Nothing here raises: what goes wrong is told in ``notes``.
    """

    def __init__(self) -> None:
        self.notes: tuple[str, ...] = ()
        self._nvml: Any = None
        self._seen: list[_Seen] = []
        self._last: float | None = None

    def open(self) -> None:
        """Ask the driver for its GPUs."""
        try:
            import pynvml

            pynvml.nvmlInit()
        except ImportError:
            self._missed("nvidia-ml-py is not installed (pip install 'attn-export[gpu]')")
        except Exception as error:  # noqa: BLE001 (no driver, no library, one of another version)
            self._missed(first_line(error))
        else:
            self._nvml = pynvml
            self._seen = self._devices()
            if not self._seen:
                self._missed("NVML lists no GPU")

    def _missed(self, why: str) -> None:
        self.notes = (f"clocks, temperature, power and other processes of the GPU aren't known: {why}",)

    def _ask(self, function: str, *args: Any) -> Any:
        """A call's answer; None where the driver, the GPU or the library doesn't know of it."""
        try:
            return getattr(self._nvml, function)(*args)
        except Exception:  # noqa: BLE001 (NVML's own classes, a function that this version lacks, text of no encoding)
            return None

    def _devices(self) -> list[_Seen]:
        bus_id = next((gpu.bus_id for gpu in gpus.found()), None)
        first = self._ask("nvmlDeviceGetHandleByPciBusId", bus_id) if bus_id else None
        if first is not None:
            return [self._described(first, 0)]
        handles = [self._ask("nvmlDeviceGetHandleByIndex", i) for i in range(self._ask("nvmlDeviceGetCount") or 0)]
        return [self._described(handle, i) for i, handle in enumerate(handles) if handle is not None]

    def _described(self, handle: Any, otherwise: int) -> _Seen:
        index, name = self._ask("nvmlDeviceGetIndex", handle), self._ask("nvmlDeviceGetName", handle)
        name = name.decode(errors="replace") if isinstance(name, bytes) else name
        return _Seen(index if isinstance(index, int) else otherwise, str(name or "unnamed GPU"), handle)

    def sample(self, now: float) -> None:
        """Look at each GPU, if the last time was a second ago.

        Args:
            now: seconds, of a clock that never goes back.
        """
        if self._last is not None and now - self._last < SECONDS_BETWEEN:
            return
        self._last = now
        for seen in self._seen:
            self._look(seen)

    def _look(self, seen: _Seen) -> None:
        handle = seen.handle
        milliwatts = self._ask("nvmlDeviceGetPowerUsage", handle)
        told = {
            "clock_mhz": self._ask("nvmlDeviceGetClockInfo", handle, CLOCK_SM),
            "memory_clock_mhz": self._ask("nvmlDeviceGetClockInfo", handle, CLOCK_MEMORY),
            "temperature_c": self._first(("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature"), handle, SENSOR),
            "power_w": milliwatts / 1e3 if isinstance(milliwatts, int) else None,
        }
        for key, value in told.items():
            if isinstance(value, int | float):
                seen.values[key].append(float(value))
        if isinstance(reasons := self._first(REASONS, handle), int):
            seen.reasons.append(reasons)
        for function in PROCESSES:
            for process in self._ask(function, handle) or ():
                _meet(seen, process)

    def _first(self, functions: Sequence[str], *args: Any) -> Any:
        """The answer of the first that gives one: newer drivers have a new one, older ones the old one."""
        return next((answer for f in functions if (answer := self._ask(f, *args)) is not None), None)

    def close(self, ours: Collection[int]) -> tuple[GpuConditions, ...]:
        """How the GPUs were, in their order; they are looked at now if they never were.

        Args:
            ours: numbers of our own processes.
        """
        if self._nvml is None:
            return ()
        if self._last is None:
            self.sample(0.0)
        found = tuple(_conditions(seen, ours) for seen in self._seen)
        if self._seen:
            self.notes = tuple(note for seen in self._seen for note in _notes(seen, ours))
        self._ask("nvmlShutdown")
        self._nvml, self._seen, self._last = None, [], None
        return found


def _meet(seen: _Seen, process: Any) -> None:
    pid, used = getattr(process, "pid", None), getattr(process, "usedGpuMemory", None)
    if isinstance(pid, int):
        memory = [used // MIB] if isinstance(used, int) else []
        before = seen.processes.get(pid)
        seen.processes[pid] = max(memory if before is None else [*memory, before], default=None)


def _conditions(seen: _Seen, ours: Collection[int]) -> GpuConditions:
    others = [GpuProcess(pid, memory) for pid, memory in sorted(seen.processes.items()) if pid not in ours]
    # In a container the driver may count processes in another way than we do: then all of them look like others.
    if len(others) == len(seen.processes):
        others = []
    values = seen.values
    return GpuConditions(
        seen.index,
        seen.name,
        clock_mhz=_range(values["clock_mhz"]),
        memory_clock_mhz=_range(values["memory_clock_mhz"]),
        temperature_c=_range(values["temperature_c"]),
        power_w=_range(values["power_w"]),
        throttling=throttling(seen.reasons),
        others=tuple(others),
    )


def _range(values: Sequence[float]) -> Range | None:
    if not values:
        return None
    return round(min(values), 1), round(statistics.median(values), 1), round(max(values), 1)


def throttling(reasons: Sequence[int]) -> tuple[str, ...]:
    """What slowed the clocks down, in words.

    Args:
        reasons: NVML's bits, of each sample.
    """
    told = [words for bit, words in THROTTLING.items() if any(mask & bit for mask in reasons)]
    general = sum(1 for mask in reasons if mask & HW_SLOWDOWN)
    if general >= OFTEN and not any(words.startswith("hardware") for words in told):
        told.append("hardware slowdown")
    return tuple(told)


def _notes(seen: _Seen, ours: Collection[int]) -> list[str]:
    """What whoever reads the figures has to know besides."""
    name = f"GPU {seen.index}"
    unknown = [WORDS[key] for key, values in seen.values.items() if not values]
    if not seen.reasons:
        unknown.append("whether it was throttled")
    if not set(seen.processes) & set(ours):
        unknown.append("which other processes use it" if not seen.processes else "which of its processes are others'")
    told = [f"{name}: the driver doesn't tell {', '.join(unknown)}"] if unknown else []
    if any(mask & CHOSEN_CLOCK for mask in seen.reasons):
        told.append(f"{name}: its clock is held where somebody set it")
    return told
