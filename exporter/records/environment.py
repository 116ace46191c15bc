"""The machine and the software of a run."""

from msgspec import Struct


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
