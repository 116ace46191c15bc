"""The NVIDIA GPUs that CUDA shows to this process, in CUDA's order: the first one runs and builds engines.

The driver's own libraries answer through ctypes: that needs no other package, works on a Jetson, and respects
CUDA_VISIBLE_DEVICES, which NVML and nvidia-smi ignore.

CUDA driver API: https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__DEVICE.html
NVML: https://docs.nvidia.com/deploy/nvml-api/group__nvmlSystemQueries.html
"""

import ctypes
import sys

from msgspec import Struct

CUDA, NVML = ("nvcuda.dll", "nvml.dll") if sys.platform == "win32" else ("libcuda.so.1", "libnvidia-ml.so.1")
CAPABILITY_MAJOR, CAPABILITY_MINOR, INTEGRATED = 75, 76, 18  # CUdevice_attribute
TEXT_BYTES = 256


class Gpu(Struct, frozen=True):
    """One GPU; None is what the driver doesn't report.

    Attributes:
        name: such as NVIDIA GeForce RTX 4090.
        compute_capability: such as 8.9.
        memory_mib: of its own; a Jetson's GPU has none.
        driver: version of the driver.
        bus_id: PCI address, such as 0000:01:00.0.
    """

    name: str
    compute_capability: str
    memory_mib: int | None = None
    driver: str | None = None
    bus_id: str | None = None

    @property
    def architecture(self) -> str:
        """The compute capability in TensorRT's notation: sm89."""
        return f"sm{self.compute_capability.replace('.', '')}"


class GpuSurvey(Struct, frozen=True):
    """The GPUs, or the reason why there is none."""

    gpus: tuple[Gpu, ...] = ()
    trouble: str = ""


def found() -> tuple[Gpu, ...]:
    """The GPUs; none without a driver."""
    return survey().gpus


def survey() -> GpuSurvey:
    """The GPUs, or the reason why there is none."""
    try:
        cuda = ctypes.CDLL(CUDA)
    except OSError:
        return GpuSurvey(trouble=f"there is no {CUDA}, so probably no NVIDIA driver")
    count = ctypes.c_int()
    if error := cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
        text = ctypes.c_char_p()
        cuda.cuGetErrorString(error, ctypes.byref(text))
        return GpuSurvey(trouble=f"the CUDA driver reports: {_text(text) or f'error {error}'}")
    driver = _driver_version()
    gpus = tuple(_gpu(cuda, index, driver) for index in range(count.value))
    return GpuSurvey(gpus, "" if gpus else "the CUDA driver lists no GPU")


def _gpu(cuda: ctypes.CDLL, index: int, driver: str | None) -> Gpu:
    device, memory = ctypes.c_int(), ctypes.c_size_t()
    name, bus_id = (ctypes.create_string_buffer(TEXT_BYTES) for _ in range(2))
    cuda.cuDeviceGet(ctypes.byref(device), index)
    cuda.cuDeviceGetName(name, TEXT_BYTES, device)
    no_bus = cuda.cuDeviceGetPCIBusId(bus_id, TEXT_BYTES, device)
    no_memory = _attribute(cuda, INTEGRATED, device) or cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    return Gpu(
        _text(name) or "unnamed GPU",
        f"{_attribute(cuda, CAPABILITY_MAJOR, device)}.{_attribute(cuda, CAPABILITY_MINOR, device)}",
        None if no_memory else memory.value // 2**20,
        driver,
        None if no_bus else _text(bus_id),
    )


def _attribute(cuda: ctypes.CDLL, attribute: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
    return value.value


def _driver_version() -> str | None:
    try:
        nvml = ctypes.CDLL(NVML)
    except OSError:
        return None
    if nvml.nvmlInit_v2():
        return None
    version = ctypes.create_string_buffer(TEXT_BYTES)
    failed = nvml.nvmlSystemGetDriverVersion(version, TEXT_BYTES)
    nvml.nvmlShutdown()
    return None if failed else _text(version)


def _text(chars: "ctypes.c_char_p | ctypes.Array[ctypes.c_char]") -> str:
    return (chars.value or b"").decode(errors="replace")
