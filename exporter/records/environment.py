"""The machine and the software of a run."""

import platform

from msgspec import Struct

from attn_export.exporter.system import gpus
from attn_export.exporter.system.gpus import Gpu
from attn_export.exporter.system.machine import cpu_name, usable_cpus
from attn_export.exporter.system.packages import versions


class Environment(Struct, frozen=True):
    """What a reader needs to compare reports; ``cpus`` may be used, ``gpus`` is empty where none was."""

    platform: str
    python: str
    cpu: str
    cpus: int
    packages: dict[str, str]
    gpus: tuple[Gpu, ...] = ()


def describe(*, with_gpus: bool = False) -> Environment:
    """The machine and the software of this process. ``with_gpus`` asks the driver for its GPUs too."""
    return Environment(
        platform=platform.platform(),
        python=platform.python_version(),
        cpu=cpu_name(),
        cpus=usable_cpus(),
        packages=versions(),
        gpus=gpus.found() if with_gpus else (),
    )
