"""The GPUs that CUDA's driver lists, on a STAND-IN for the driver's libraries."""

import ctypes
from collections.abc import Callable
from typing import Any

import pytest

from attn_export.exporter.records.environment import describe
from attn_export.exporter.system import gpus
from attn_export.exporter.system.gpus import CUDA, NVML, Gpu, GpuSurvey

CARD = {"name": b"NVIDIA H200", 75: 9, 76: 0, 18: 0, "memory": 143771 * 2**20 + 7, "bus": b"0000:41:00.0"}
ORIN = {"name": b"Orin", 75: 8, 76: 7, 18: 1, "memory": 2**33, "bus": b"0000:00:00.0"}


class Driver:
    """libcuda and libnvidia-ml. ``fails``: functions that return an error."""

    def __init__(self, *cards: dict[Any, Any], fails: tuple[str, ...] = ()) -> None:
        self.cards, self.fails, self.open = cards, fails, 0

    def __getattribute__(self, name: str) -> Any:
        if name.startswith(("cu", "nvml")) and name in self.fails:
            return lambda *_: 100
        return super().__getattribute__(name)

    def cuInit(self, flags: int) -> int:
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = len(self.cards)
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:
        device._obj.value = 40 + index
        return 0

    def _card(self, device: Any) -> dict[Any, Any]:
        return self.cards[device.value - 40]

    def cuDeviceGetName(self, text: Any, length: int, device: Any) -> int:
        assert length <= ctypes.sizeof(text)
        text.value = self._card(device)["name"]
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        value._obj.value = self._card(device)[attribute]
        return 0

    def cuDeviceTotalMem_v2(self, size: Any, device: Any) -> int:
        assert isinstance(size._obj, ctypes.c_size_t)
        size._obj.value = self._card(device)["memory"]
        return 0

    def cuDeviceGetPCIBusId(self, text: Any, length: int, device: Any) -> int:
        assert length <= ctypes.sizeof(text)
        text.value = self._card(device)["bus"]
        return 0

    def cuGetErrorString(self, error: int, text: Any) -> int:
        assert error == 100
        text._obj.value = b"no CUDA-capable device is detected"
        return 0

    def nvmlInit_v2(self) -> int:
        self.open += 1
        return 0

    def nvmlSystemGetDriverVersion(self, text: Any, length: int) -> int:
        assert self.open == 1
        assert length <= ctypes.sizeof(text)
        text.value = b"580.95.05"
        return 0

    def nvmlShutdown(self) -> int:
        self.open -= 1
        return 0


Install = Callable[..., Driver]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """``install(driver, CUDA)``: of the driver's libraries these are there."""

    def make(driver: Driver, *libraries: str) -> Driver:
        def load(name: str) -> Driver:
            if name not in libraries:
                raise OSError(f"{name}: cannot open shared object file")
            return driver

        monkeypatch.setattr(ctypes, "CDLL", load)
        return driver

    return make


def test_gpus_keep_the_order_of_cuda(install: Install) -> None:
    driver = install(Driver(CARD, {**CARD, "name": b"NVIDIA L4", 75: 8, 76: 9}), CUDA, NVML)
    first, second = gpus.found()
    assert first == Gpu("NVIDIA H200", "9.0", 143771, "580.95.05", "0000:41:00.0")
    assert (second.name, second.architecture) == ("NVIDIA L4", "sm89")
    assert driver.open == 0


def test_a_jetson_has_no_memory_of_its_own_and_may_have_no_nvml(install: Install) -> None:
    install(Driver(ORIN, fails=("cuDeviceGetPCIBusId",)), CUDA)
    assert gpus.survey() == GpuSurvey((Gpu("Orin", "8.7"),))


@pytest.mark.parametrize("fails", ["nvmlInit_v2", "nvmlSystemGetDriverVersion"])
def test_nvml_that_fails_takes_nothing_else_along(fails: str, install: Install) -> None:
    driver = install(Driver(CARD, fails=(fails,)), CUDA, NVML)
    (gpu,) = gpus.found()
    assert (gpu.driver, gpu.memory_mib) == (None, 143771)
    assert driver.open == 0


@pytest.mark.parametrize(
    ("cards", "fails", "trouble"),
    [
        ((CARD,), ("cuInit",), "the CUDA driver reports: no CUDA-capable device is detected"),
        ((CARD,), ("cuDeviceGetCount",), "the CUDA driver reports: no CUDA-capable device is detected"),
        ((CARD,), ("cuInit", "cuGetErrorString"), "the CUDA driver reports: error 100"),
        ((), (), "the CUDA driver lists no GPU"),
    ],
)
def test_without_a_gpu_there_is_a_reason(cards: Any, fails: tuple[str, ...], trouble: str, install: Install) -> None:
    install(Driver(*cards, fails=fails), CUDA, NVML)
    assert gpus.survey() == GpuSurvey(trouble=trouble)


def test_without_a_driver(install: Install) -> None:
    install(Driver())
    assert gpus.survey() == GpuSurvey(trouble=f"there is no {CUDA}, so probably no NVIDIA driver")


def test_the_record_of_a_run_on_a_gpu_names_it(install: Install) -> None:
    install(Driver(CARD), CUDA)
    assert describe(with_gpus=True).gpus[0].name == "NVIDIA H200"
    assert describe().gpus == ()
