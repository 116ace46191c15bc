"""The machine and the software of a run."""

import platform

from msgspec import Struct

from attn_export.exporter.system.gpus import look_for_gpus
from attn_export.exporter.system.machine import cpu_name, usable_cpus
from attn_export.exporter.system.packages import versions


class GpuDescription(Struct, frozen=True):
    """One GPU; None is what the driver doesn't report.

    Attributes:
        name: such as NVIDIA GeForce RTX 4090.
        driver: its version.
        memory_mib: of its own; a Jetson's GPU has none.
        compute_capability: such as 8.9.
    """

    name: str
    driver: str | None = None
    memory_mib: int | None = None
    compute_capability: str | None = None


class Environment(Struct, frozen=True):
    """What a reader needs to compare a report with another.

    Attributes:
        platform: operating system, version and processor.
        python: version.
        cpu: model name.
        cpus: that the process may use.
        packages: versions by name.
        gpus: of this machine; empty where none was used.
    """

    platform: str
    python: str
    cpu: str
    cpus: int
    packages: dict[str, str]
    gpus: tuple[GpuDescription, ...] = ()


def describe(*, with_gpus: bool = False) -> Environment:
    """The machine and the software of this process.

    Args:
        with_gpus: ask the driver for its GPUs too, which can take a second.
    """
    gpus = look_for_gpus().gpus if with_gpus else ()
    return Environment(
        platform=platform.platform(),
        python=platform.python_version(),
        cpu=cpu_name(),
        cpus=usable_cpus(),
        packages=versions(),
        gpus=tuple(GpuDescription(gpu.name, gpu.driver, gpu.memory_mib, gpu.compute_capability) for gpu in gpus),
    )
