"""Returning memory to the operating system.

The C library keeps freed blocks for later use. After the float64 reference and after an ONNX Runtime session these are
hundreds of MiB, scattered so that the next stage can't use them: the peak of exporting cbam_resnet50 was 1050 MiB
without this file, and is 880 MiB with it. Nothing here does anything where the C library isn't glibc.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

if TYPE_CHECKING:
    import onnx_ir as ir

# mallopt(3): the parameters, and the values that glibc's adaptation reaches in a process that frees large blocks.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
ADAPTED_MMAP_BYTES = 32 * 2**20
ADAPTED_TRIM_BYTES = 2 * ADAPTED_MMAP_BYTES
SMALL_MMAP_BYTES = 2**20


def trim() -> None:
    """Return freed blocks to the system, as far as the C library can.

    Collecting garbage first changed the peaks of exporting and validating cbam_resnet50 by less than 5 % either way
    and took a quarter of a second each time: torch and onnxscript have half a million objects.
    """
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def forget_weights(model: "ir.Model") -> None:
    """Free a graph's weights, in memory or mapped, although onnxscript's rules keep the last graph."""
    for value in model.graph.initializers.values():
        value.const_value = None


@contextmanager
def large_blocks_returned() -> Iterator[None]:
    """Context in which freed blocks above 1 MiB return to the system at once; slow in a hot loop."""
    libc = _glibc()
    if libc is not None:
        libc.mallopt(M_MMAP_THRESHOLD, SMALL_MMAP_BYTES)
    try:
        yield
    finally:
        if libc is not None:
            libc.mallopt(M_MMAP_THRESHOLD, ADAPTED_MMAP_BYTES)
            libc.mallopt(M_TRIM_THRESHOLD, ADAPTED_TRIM_BYTES)


def _glibc() -> Any:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt") else None


class PeakMemory:
    """The peak memory of this process within the context: ``with PeakMemory() as memory: ...; memory.bytes``.

    Linux keeps the number (proc(5): VmHWM) and lets it be reset; elsewhere ``bytes`` stays None.
    """

    def __init__(self) -> None:
        self.bytes: int | None = None

    def __enter__(self) -> Self:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    self.bytes = int(line.split()[1]) * 1024
