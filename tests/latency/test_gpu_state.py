"""What NVML says of a GPU, on STAND-INS for its Python module: nothing here says what a driver really tells."""

import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attn_export.exporter.latency import gpu_state
from attn_export.exporter.latency.conditions import Watch
from attn_export.exporter.latency.gpu_state import GpuWatch, throttling
from attn_export.exporter.records.document import plain as plain_values
from attn_export.exporter.records.latency import GpuConditions, GpuProcess
from attn_export.exporter.system import gpus
from attn_export.exporter.system.gpus import Gpu

OURS = (4000, 4001)
MIB = 2**20


class NVMLError(Exception):
    """As NVML's: its text is what the driver says."""


class Nvml(types.ModuleType):
    """The module. Each sample gives the next of the values; what isn't there raises as NVML does.

    Args:
        gpus: handles; each is a dictionary of values.
    """

    NVMLError = NVMLError

    def __init__(self, *gpus: dict[str, Any], fails: str = "") -> None:
        super().__init__("pynvml")
        self.gpus, self.fails = gpus, fails
        self.open = 0
        self.buses: list[str] = []

    def _tell(self, handle: dict[str, Any], key: str) -> Any:
        assert self.open, "asked while NVML is shut down"
        if key not in handle:
            raise NVMLError("Not Supported")
        told = handle[key]
        return told.pop(0) if isinstance(told, list) and len(told) > 1 else told[0] if isinstance(told, list) else told

    def nvmlInit(self) -> None:
        if self.fails:
            raise NVMLError(self.fails)
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:
        return self.gpus[index]

    def nvmlDeviceGetHandleByPciBusId(self, bus: str) -> dict[str, Any]:
        self.buses.append(bus)
        return next(gpu for gpu in self.gpus if gpu.get("bus") == bus)

    def nvmlDeviceGetIndex(self, handle: dict[str, Any]) -> int:
        return [id(gpu) for gpu in self.gpus].index(id(handle))

    def nvmlDeviceGetName(self, handle: dict[str, Any]) -> Any:
        return self._tell(handle, "name")

    def nvmlDeviceGetClockInfo(self, handle: dict[str, Any], kind: int) -> Any:
        return self._tell(handle, {1: "sm", 2: "memory"}[kind])

    def nvmlDeviceGetTemperature(self, handle: dict[str, Any], sensor: int) -> Any:
        assert sensor == 0
        return self._tell(handle, "temperature")

    def nvmlDeviceGetPowerUsage(self, handle: dict[str, Any]) -> Any:
        return self._tell(handle, "milliwatts")

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: dict[str, Any]) -> Any:
        return self._tell(handle, "reasons")

    def nvmlDeviceGetComputeRunningProcesses(self, handle: dict[str, Any]) -> Any:
        return [types.SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self._tell(handle, "processes")]


def a4000(**changes: Any) -> dict[str, Any]:
    """A GPU that tells everything."""
    return {
        "bus": "0000:01:00.0",
        "name": "NVIDIA RTX A4000",
        "sm": [1560, 1545, 1560],
        "memory": 7001,
        "temperature": [61, 64, 70],
        "milliwatts": [129_940, 131_060, 130_000],
        "reasons": [0x0],
        "processes": [[(4000, 512 * MIB)]],
        **changes,
    }


Installed = Callable[[Nvml], Nvml]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Installed:
    """``installed(nvml)`` is found by an import, and CUDA doesn't tell which GPU is its first."""
    monkeypatch.setattr(gpus, "found", lambda: ())

    def install(nvml: Nvml) -> Nvml:
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        return nvml

    return install


def watched(seconds: float = 3, every: float = 0.1) -> tuple[tuple[GpuConditions, ...], tuple[str, ...]]:
    """What is told after rounds of so many seconds, and the notes."""
    watch = GpuWatch()
    watch.open()
    for step in range(round(seconds / every)):
        watch.sample(step * every)
    return watch.close(OURS), watch.notes


# A GPU that tells everything.


def test_ranges_are_least_median_and_most_of_a_sample_each_second(installed: Installed) -> None:
    nvml = installed(Nvml(a4000()))
    (gpu,), notes = watched()
    assert gpu == GpuConditions(
        index=0,
        name="NVIDIA RTX A4000",
        clock_mhz=(1545.0, 1560.0, 1560.0),
        memory_clock_mhz=(7001.0, 7001.0, 7001.0),
        temperature_c=(61.0, 64.0, 70.0),
        power_w=(129.9, 130.0, 131.1),
    )
    assert notes == ()
    assert nvml.open == 0


def test_the_record_has_the_names_and_plain_values(installed: Installed) -> None:
    installed(Nvml(a4000(processes=[[(4000, MIB), (77, 3 * MIB)]])))
    told = plain_values(watched()[0][0])
    assert list(told) == [
        *("index", "name", "clock_mhz", "memory_clock_mhz", "temperature_c", "power_w", "throttling", "others")
    ]
    assert told["others"] == [{"pid": 77, "memory_mib": 3}]


def test_it_is_looked_at_once_a_second_at_most(installed: Installed) -> None:
    gpu = a4000(sm=list(range(1000, 1100)))
    installed(Nvml(gpu))
    watched(seconds=5, every=0.01)
    assert len(gpu["sm"]) == 95


def test_a_run_that_was_over_at_once_is_looked_at_when_it_ends(installed: Installed) -> None:
    installed(Nvml(a4000()))
    assert watched(seconds=0)[0][0].clock_mhz == (1560.0, 1560.0, 1560.0)


def test_the_gpu_is_the_one_that_cuda_calls_its_first(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = installed(Nvml(a4000(), a4000(bus="0000:41:00.0", name="NVIDIA H100 PCIe")))
    monkeypatch.setattr(gpus, "found", lambda: (Gpu("NVIDIA H100 PCIe", "9.0", bus_id="0000:41:00.0"),))
    assert [(gpu.index, gpu.name) for gpu in watched()[0]] == [(1, "NVIDIA H100 PCIe")]
    assert nvml.buses == ["0000:41:00.0"]


@pytest.mark.parametrize("bus", [None, "0000:99:00.0"])
def test_where_that_one_is_not_known_all_are_reported(
    bus: str | None, installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(Nvml(a4000(), a4000(bus="0000:41:00.0", name=b"NVIDIA H100 PCIe")))
    monkeypatch.setattr(gpus, "found", lambda: (Gpu("NVIDIA H100 PCIe", "9.0", bus_id=bus),))
    assert [gpu.name for gpu in watched()[0]] == ["NVIDIA RTX A4000", "NVIDIA H100 PCIe"]


# What slows clocks down.

IDLE, CHOSEN, POWER, HARDWARE, BOOST_GROUP, WARM, HOT, BRAKE, DISPLAY = (1 << i for i in range(9))


@pytest.mark.parametrize(
    ("reasons", "told"),
    [
        ([], ()),
        ([0, IDLE, CHOSEN, BOOST_GROUP, DISPLAY, 0x200, 0x400], ()),
        ([0, POWER, 0], ("power cap",)),
        ([WARM | POWER], ("power cap", "software thermal slowdown")),
        ([HOT | HARDWARE, HARDWARE, HARDWARE], ("hardware thermal slowdown",)),
        ([BRAKE | HARDWARE], ("hardware power brake",)),
        ([0, HARDWARE, 0, 0], ()),  # a clock that changed
        ([HARDWARE, 0, HARDWARE], ("hardware slowdown",)),
    ],
)
def test_throttling_is_what_slows_a_gpu_down_and_nothing_else(reasons: list[int], told: tuple[str, ...]) -> None:
    assert throttling(reasons) == told


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_every_mask_has_words(reasons: list[int]) -> None:
    known = {"power cap", "software thermal slowdown", "hardware thermal slowdown", "hardware power brake"}
    assert set(throttling(reasons)) <= known | {"hardware slowdown"}


def test_throttling_at_any_time_is_reported_once(installed: Installed) -> None:
    installed(Nvml(a4000(reasons=[0, WARM, WARM, 0])))
    assert watched(seconds=4)[0][0].throttling == ("software thermal slowdown",)


def test_an_older_library_and_driver_are_asked_in_their_own_words(installed: Installed) -> None:
    class Older(Nvml):
        nvmlDeviceGetCurrentClocksEventReasons = None  # type: ignore[assignment]

        def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: dict[str, Any]) -> Any:
            return self._tell(handle, "reasons")

    installed(Older(a4000(reasons=[POWER])))
    (gpu,), notes = watched()
    assert gpu.throttling == ("power cap",)
    assert notes == ()


def test_a_later_library_s_temperature(installed: Installed) -> None:
    class Later(Nvml):
        nvmlDeviceGetTemperature = None  # type: ignore[assignment]

        def nvmlDeviceGetTemperatureV(self, handle: dict[str, Any], sensor: int) -> Any:
            return self._tell(handle, "temperature")

    installed(Later(a4000()))
    assert watched()[0][0].temperature_c == (61.0, 64.0, 70.0)


def test_a_clock_that_somebody_set_is_noted_and_is_no_throttling(installed: Installed) -> None:
    installed(Nvml(a4000(reasons=[CHOSEN])))
    (gpu,), notes = watched()
    assert gpu.throttling == ()
    assert notes == ("GPU 0: its clock is locked",)


# Who else is there.


def test_others_are_those_that_were_there_at_any_time_with_the_most_memory_that_they_had(installed: Installed) -> None:
    ours = (4001, 100 * MIB)
    installed(Nvml(a4000(processes=[[ours, (9, 5 * MIB)], [ours, (9, 8 * MIB), (7, None)], [ours, (9, 2 * MIB)]])))
    assert watched()[0][0].others == (GpuProcess(7, None), GpuProcess(9, 8))


def test_in_a_container_whose_driver_counts_otherwise_nobody_is_accused(installed: Installed) -> None:
    installed(Nvml(a4000(processes=[[(311_000, 100 * MIB)]])))
    (gpu,), notes = watched()
    assert gpu.others == ()
    assert notes == ("GPU 0: the driver doesn't report which of its processes are others'",)


def test_processes_of_the_multi_process_service_count_as_well(installed: Installed) -> None:
    class Shared(Nvml):
        def nvmlDeviceGetMPSComputeRunningProcesses(self, handle: dict[str, Any]) -> Any:
            return [types.SimpleNamespace(pid=pid, usedGpuMemory=MIB) for pid in (4000, 12)]

    installed(Shared(a4000(processes=[[]])))
    assert watched()[0][0].others == (GpuProcess(12, 1),)


# Those that tell little or nothing.


def test_a_jetson_tells_its_name_and_little_else(installed: Installed) -> None:
    installed(Nvml({"name": "Orin (nvgpu)"}))
    (gpu,), (note,) = watched()
    assert gpu == GpuConditions(0, "Orin (nvgpu)")
    assert note == (
        "GPU 0: the driver doesn't report its clock, its memory's clock, its temperature, its power, whether it was "
        "throttled, which other processes use it"
    )


@pytest.mark.parametrize("missing", ["sm", "memory", "temperature", "milliwatts"])
def test_one_thing_that_is_missing_takes_nothing_else_along(missing: str, installed: Installed) -> None:
    gpu = a4000()
    del gpu[missing]
    installed(Nvml(gpu))
    told = plain_values(watched()[0][0])
    key = {"sm": "clock_mhz", "memory": "memory_clock_mhz", "temperature": "temperature_c", "milliwatts": "power_w"}
    assert [name for name, value in told.items() if value is None] == [key[missing]]


@pytest.mark.parametrize("why", ["NVML Shared Library Not Found", "Driver Not Loaded", "RM has detected a mismatch"])
def test_without_a_driver_it_says_why(why: str, installed: Installed) -> None:
    installed(Nvml(a4000(), fails=why))
    told, notes = watched()
    assert told == ()
    assert notes == (f"clocks, temperature, power and other processes of the GPU are unknown: {why}",)


def test_without_the_library_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    told, (note,) = watched()
    assert told == ()
    assert "nvidia-ml-py is not installed (pip install 'attn-export[gpu]')" in note


def test_another_module_of_that_name_does_no_harm(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", types.ModuleType("pynvml"))
    told, (note,) = watched()
    assert told == ()
    assert "nvmlInit" in note


def test_a_driver_without_gpus(installed: Installed) -> None:
    nvml = installed(Nvml())
    told, (note,) = watched()
    assert told == ()
    assert note.endswith("NVML lists no GPU")
    assert nvml.open == 0


def test_a_gpu_that_is_lost_halfway_leaves_what_was_seen(installed: Installed) -> None:
    class Lost(Nvml):
        def _tell(self, handle: dict[str, Any], key: str) -> Any:
            if key == "sm" and len(handle["sm"]) == 1:
                raise NVMLError("GPU is lost")
            return super()._tell(handle, key)

    installed(Lost(a4000(sm=[1500, 1510, 1520])))
    assert watched(seconds=9)[0][0].clock_mhz == (1500.0, 1505.0, 1510.0)


def test_this_machine_s_own_library_does_not_raise() -> None:
    pytest.importorskip("pynvml")
    told, notes = watched(seconds=0)
    assert told or notes


def test_the_real_library_has_the_functions_and_numbers_that_are_used() -> None:
    pynvml = pytest.importorskip("pynvml")
    functions = "Init Shutdown DeviceGetCount DeviceGetHandleByIndex DeviceGetHandleByPciBusId DeviceGetIndex".split()
    functions += "DeviceGetName DeviceGetClockInfo DeviceGetPowerUsage DeviceGetTemperature".split()
    assert all(callable(getattr(pynvml, f"nvml{name}")) for name in functions)
    assert all(any(hasattr(pynvml, f) for f in some) for some in (gpu_state.REASONS, gpu_state.PROCESSES))
    numbers = (pynvml.NVML_CLOCK_SM, pynvml.NVML_CLOCK_MEM, pynvml.NVML_TEMPERATURE_GPU)
    assert numbers == (gpu_state.CLOCK_SM, gpu_state.CLOCK_MEMORY, gpu_state.SENSOR)
    named = "SwPowerCap SwThermalSlowdown HwThermalSlowdown HwPowerBrakeSlowdown".split()
    assert [getattr(pynvml, f"nvmlClocksEventReason{name}") for name in named] == list(gpu_state.THROTTLING)
    assert pynvml.nvmlClocksEventReasonHwSlowdown == gpu_state.HW_SLOWDOWN
    assert pynvml.nvmlClocksEventReasonApplicationsClocksSetting == gpu_state.LOCKED_CLOCK


# As part of all conditions.


def test_a_watch_looks_at_gpus_only_where_something_runs_on_one(installed: Installed) -> None:
    nvml = installed(Nvml(a4000()))
    watch = Watch()
    watch.start()
    watch.sample()
    assert nvml.open == 0
    assert watch.stop().gpus == ()


def test_a_watch_tells_gpus_and_notes(installed: Installed) -> None:
    nvml = installed(Nvml(a4000(reasons=[WARM | CHOSEN])))
    watch = Watch(gpu=True)
    watch.start()
    watch.sample()
    found = watch.stop()
    (gpu,) = found.gpus
    assert gpu.throttling == ("software thermal slowdown",)
    assert found.notes[-1] == "GPU 0: its clock is locked"
    assert nvml.open == 0
