"""The state of NVIDIA GPUs during a timing, from NVML; None if unknown.

NVML: https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html, and for throttling
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
# NVML's enumerators.
CLOCK_SM, CLOCK_MEMORY, SENSOR = 1, 2, 0
REASONS = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
PROCESSES = ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetMPSComputeRunningProcesses")
MIB = 2**20
# Bits of NVML's clock event reasons. Idle, boost groups, the display's clock and a locked clock aren't throttling.
LOCKED_CLOCK, HW_SLOWDOWN = 0x2, 0x8
THROTTLING = {
    0x4: "power cap",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}
# The general bit is also set briefly when a clock changes, so a single sample means nothing.
OFTEN = 2
# The sampled values, and their names in notes.
WORDS = {
    "clock_mhz": "its clock",
    "memory_clock_mhz": "its memory's clock",
    "temperature_c": "its temperature",
    "power_w": "its power",
}


@dataclass
class _Samples:
    """The samples of one GPU."""

    index: int
    name: str
    handle: Any
    values: dict[str, list[float]] = field(default_factory=lambda: {key: [] for key in WORDS})
    reasons: list[int] = field(default_factory=list)
    processes: dict[int, int | None] = field(default_factory=dict)  # MiB by number


class GpuWatch:
    """Samples CUDA's first GPU, which runs everything here; all GPUs if it can't be identified.

    Never raises; failures are in ``notes``.
    """

    def __init__(self) -> None:
        self.notes: tuple[str, ...] = ()
        self._nvml: Any = None
        self._seen: list[_Samples] = []
        self._last: float | None = None

    def open(self) -> None:
        """Initialize NVML and find the GPUs."""
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
        self.notes = (f"clocks, temperature, power and other processes of the GPU are unknown: {why}",)

    def _call(self, function: str, *args: Any) -> Any:
        """The result of an NVML function; None if driver, GPU or library don't support it."""
        try:
            return getattr(self._nvml, function)(*args)
        except Exception:  # noqa: BLE001 (NVML's errors, missing functions, undecodable text)
            return None

    def _devices(self) -> list[_Samples]:
        bus_id = next((gpu.bus_id for gpu in gpus.found()), None)
        first = self._call("nvmlDeviceGetHandleByPciBusId", bus_id) if bus_id else None
        if first is not None:
            return [self._described(first, 0)]
        handles = [self._call("nvmlDeviceGetHandleByIndex", i) for i in range(self._call("nvmlDeviceGetCount") or 0)]
        return [self._described(handle, i) for i, handle in enumerate(handles) if handle is not None]

    def _described(self, handle: Any, otherwise: int) -> _Samples:
        index, name = self._call("nvmlDeviceGetIndex", handle), self._call("nvmlDeviceGetName", handle)
        name = name.decode(errors="replace") if isinstance(name, bytes) else name
        return _Samples(index if isinstance(index, int) else otherwise, str(name or "unnamed GPU"), handle)

    def sample(self, now: float) -> None:
        """Sample each GPU, at most once a second."""
        if self._last is not None and now - self._last < SECONDS_BETWEEN:
            return
        self._last = now
        for seen in self._seen:
            self._sample(seen)

    def _sample(self, seen: _Samples) -> None:
        handle = seen.handle
        milliwatts = self._call("nvmlDeviceGetPowerUsage", handle)
        values = {
            "clock_mhz": self._call("nvmlDeviceGetClockInfo", handle, CLOCK_SM),
            "memory_clock_mhz": self._call("nvmlDeviceGetClockInfo", handle, CLOCK_MEMORY),
            "temperature_c": self._first(("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature"), handle, SENSOR),
            "power_w": milliwatts / 1e3 if isinstance(milliwatts, int) else None,
        }
        for key, value in values.items():
            if isinstance(value, int | float):
                seen.values[key].append(float(value))
        if isinstance(reasons := self._first(REASONS, handle), int):
            seen.reasons.append(reasons)
        for function in PROCESSES:
            for process in self._call(function, handle) or ():
                _add_process(seen, process)

    def _first(self, functions: Sequence[str], *args: Any) -> Any:
        """The first function's result that isn't None; drivers differ in names."""
        return next((result for f in functions if (result := self._call(f, *args)) is not None), None)

    def close(self, ours: Collection[int]) -> tuple[GpuConditions, ...]:
        """The conditions of the GPUs, by index; samples now if it never did.

        ``ours`` are the ids of our processes.
        """
        if self._nvml is None:
            return ()
        if self._last is None:
            self.sample(0.0)
        found = tuple(_conditions(seen, ours) for seen in self._seen)
        if self._seen:
            self.notes = tuple(note for seen in self._seen for note in _notes(seen, ours))
        self._call("nvmlShutdown")
        self._nvml, self._seen, self._last = None, [], None
        return found


def _add_process(seen: _Samples, process: Any) -> None:
    pid, used = getattr(process, "pid", None), getattr(process, "usedGpuMemory", None)
    if isinstance(pid, int):
        memory = [used // MIB] if isinstance(used, int) else []
        before = seen.processes.get(pid)
        seen.processes[pid] = max(memory if before is None else [*memory, before], default=None)


def _conditions(seen: _Samples, ours: Collection[int]) -> GpuConditions:
    others = [GpuProcess(pid, memory) for pid, memory in sorted(seen.processes.items()) if pid not in ours]
    # In a container the driver may use other process ids; then none of them is ours.
    if len(others) == len(seen.processes):
        others = []
    ranges = {key: _range(values) for key, values in seen.values.items()}
    return GpuConditions(seen.index, seen.name, **ranges, throttling=throttling(seen.reasons), others=tuple(others))


def _range(values: Sequence[float]) -> Range | None:
    if not values:
        return None
    return round(min(values), 1), round(statistics.median(values), 1), round(max(values), 1)


def throttling(reasons: Sequence[int]) -> tuple[str, ...]:
    """The kinds of throttling from NVML's bits of each sample."""
    kinds = [kind for bit, kind in THROTTLING.items() if any(mask & bit for mask in reasons)]
    general = sum(1 for mask in reasons if mask & HW_SLOWDOWN)
    if general >= OFTEN and not any(kind.startswith("hardware") for kind in kinds):
        kinds.append("hardware slowdown")
    return tuple(kinds)


def _notes(seen: _Samples, ours: Collection[int]) -> list[str]:
    """Notes on unknown values and a locked clock."""
    name = f"GPU {seen.index}"
    unknown = [WORDS[key] for key, values in seen.values.items() if not values]
    if not seen.reasons:
        unknown.append("whether it was throttled")
    if not set(seen.processes) & set(ours):
        unknown.append("which other processes use it" if not seen.processes else "which of its processes are others'")
    notes = [f"{name}: the driver doesn't report {', '.join(unknown)}"] if unknown else []
    if any(mask & LOCKED_CLOCK for mask in seen.reasons):
        notes.append(f"{name}: its clock is locked")
    return notes
