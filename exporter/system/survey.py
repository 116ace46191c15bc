"""Everything that `attn-export doctor` reports: the machine, its libraries and GPUs, and what follows from them."""

import platform
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

from attn_export.exporter.system.gpus import Gpu, GpuSurvey, look_for_gpus
from attn_export.exporter.system.jetson import Jetson, find_jetson
from attn_export.exporter.system.jobs import Job, jobs
from attn_export.exporter.system.libraries import WANTED, Library, Wanted, import_elsewhere, look_for
from attn_export.exporter.system.machine import Memory, cpu_name, memory, operating_system, usable_cpus
from attn_export.exporter.system.missing import Missing, missing
from attn_export.exporter.system.packages import installed

Found = TypeVar("Found")
# The driver itself is asked by the code that builds engines for "this GPU".
DRIVER_MODULE = "attn_export.exporter.system.cuda"
UNSEEN = "couldn't be looked for: {}"


@dataclass(frozen=True)
class Machine:
    """What there is without any library."""

    attn_export: str | None
    python: str
    executable: str
    system: str
    cpu: str
    cpus: int
    memory: Memory


@dataclass(frozen=True)
class Survey:
    """What this machine has, what can be done with it, and what is missing."""

    machine: Machine
    libraries: tuple[Library, ...]
    gpus: GpuSurvey
    jetson: Jetson | None
    jobs: tuple[Job, ...]
    missing: tuple[Missing, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values; docs/doctor.md describes them."""
        return {
            "machine": asdict(self.machine),
            "libraries": [library.to_dict() for library in self.libraries],
            "gpus": [gpu.to_dict() for gpu in self.gpus.gpus],
            "gpu_trouble": self.gpus.trouble or None,
            "jetson": asdict(self.jetson) | {"jetpack": self.jetson.jetpack} if self.jetson else None,
            "jobs": [asdict(job) for job in self.jobs],
            "missing": [asdict(part) for part in self.missing],
        }


def survey(advance: Callable[[float], None] = lambda _: None) -> Survey:
    """Look at everything, at the same time; whatever can't be looked at becomes words.

    Args:
        advance: hears the share of what has been looked at, 0..1.
    """
    with ThreadPoolExecutor(max_workers=len(WANTED) + 1) as pool:
        asked_gpus = pool.submit(find_gpus)
        asked = [pool.submit(look_for, wanted) for wanted in WANTED]
        everything: list[Future[Any]] = [asked_gpus, *asked]
        for done, _ in enumerate(as_completed(everything), start=1):
            advance(done / (len(WANTED) + 1))
    libraries = tuple(
        guarded(future.result, partial(unseen_library, wanted)) for future, wanted in zip(asked, WANTED, strict=True)
    )
    gpus = guarded(asked_gpus.result, lambda error: GpuSurvey(trouble=UNSEEN.format(error)))
    jetson = guarded(find_jetson, lambda _: None)
    by_name = {library.wanted.name: library for library in libraries}
    return Survey(
        machine=machine(),
        libraries=libraries,
        gpus=gpus,
        jetson=jetson,
        jobs=jobs(by_name, gpus, jetson),
        missing=missing(by_name, gpus, jetson),
    )


def machine() -> Machine:
    """Without any library."""
    return Machine(
        attn_export=installed("attn-export"),
        python=platform.python_version(),
        executable=sys.executable,
        system=guarded(operating_system, lambda _: sys.platform),
        cpu=guarded(cpu_name, lambda _: platform.machine()),
        cpus=usable_cpus(),
        memory=guarded(memory, lambda _: Memory(None, None)),
    )


def find_gpus() -> GpuSurvey:
    """From `nvidia-smi`; where it isn't there or lists none, as on many a Jetson, from the driver itself."""
    found = look_for_gpus()
    if found.gpus or "hangs" in found.trouble:
        return found
    told = import_elsewhere(DRIVER_MODULE)
    gpus = tuple(Gpu(name, compute_capability=f"{sm[2:-1]}.{sm[-1]}") for name, sm in told.get("gpus", ()))
    return GpuSurvey(gpus) if gpus else found


def unseen_library(wanted: Wanted, error: Exception) -> Library:
    """Stands for a library when it was the looking that failed."""
    return Library(wanted, None, UNSEEN.format(error))


def guarded(probe: Callable[[], Found], otherwise: Callable[[Exception], Found]) -> Found:
    """What the probe finds; what stands for it where the probe itself fails, so that the others are still told."""
    try:
        return probe()
    except Exception as error:  # noqa: BLE001 (a report of what is broken must not break)
        return otherwise(error)
