"""Where CUDA's first GPU is plugged in, on a STAND-IN for the driver's library."""

import ctypes
from typing import Any

import pytest

from attn_export.exporter.system.cuda import bus_of


class Driver:
    """CUDA's driver library, as far as the place of a GPU goes."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails

    def cuInit(self, flags: int) -> int:
        return 100 if self.fails == "cuInit" else 0

    def cuDeviceGet(self, device: Any, index: int) -> int:
        device._obj.value = 40 + index
        return 101 if self.fails == "cuDeviceGet" else 0

    def cuDeviceGetPCIBusId(self, place: Any, length: int, device: Any) -> int:
        assert device.value == 40
        assert length <= ctypes.sizeof(place)
        place.value = b"0000:41:00.0"
        return 1 if self.fails == "cuDeviceGetPCIBusId" else 0


@pytest.mark.parametrize("fails", ["", "cuInit", "cuDeviceGet", "cuDeviceGetPCIBusId", "library"])
def test_cuda_s_driver_tells_where_its_first_gpu_is_plugged_in(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> Driver:
        if fails == "library":
            raise OSError(f"{name}: cannot open shared object file")
        return Driver(fails)

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert bus_of() == (None if fails else "0000:41:00.0")
