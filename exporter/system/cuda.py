"""The GPUs of this machine, asked from the driver itself: no torch, no TensorRT, and the same on a Jetson.

CUDA driver API: https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__DEVICE.html
"""

import ctypes
import sys
from dataclasses import dataclass

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR = 75, 76
NAME_BYTES = 256
BUS_BYTES = 32


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        name: as the driver says it.
        architecture: "sm86" for compute capability 8.6.
    """

    name: str
    architecture: str


def gpus() -> tuple[Gpu, ...]:
    """All that the driver shows to this process; none without a driver."""
    try:
        cuda = ctypes.CDLL(LIBRARY)
    except OSError:
        return ()
    count = ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
        return ()
    return tuple(_described(cuda, index) for index in range(count.value))


def _described(cuda: ctypes.CDLL, index: int) -> Gpu:
    name, device = ctypes.create_string_buffer(NAME_BYTES), ctypes.c_int()
    major, minor = ctypes.c_int(), ctypes.c_int()
    cuda.cuDeviceGet(ctypes.byref(device), index)
    cuda.cuDeviceGetName(name, NAME_BYTES, device)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), COMPUTE_CAPABILITY_MAJOR, device)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), COMPUTE_CAPABILITY_MINOR, device)
    return Gpu(name.value.decode(errors="replace"), f"sm{major.value}{minor.value}")


def bus_of(index: int = 0) -> str | None:
    """Where a GPU is plugged in, such as 0000:01:00.0, by CUDA's number for it; None where that can't be told."""
    try:
        cuda = ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    device, place = ctypes.c_int(), ctypes.create_string_buffer(BUS_BYTES)
    if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), index):
        return None
    return None if cuda.cuDeviceGetPCIBusId(place, BUS_BYTES, device) else place.value.decode(errors="replace")
