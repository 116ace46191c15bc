"""The survey of `attn-export doctor`: the machine, its libraries and GPUs, the jobs they allow, and missing parts."""

import platform
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

from msgspec import convert, to_builtins

from attn_export.exporter.system import gpus
from attn_export.exporter.system.cache_folder import bytes_in, cache_folder
from attn_export.exporter.system.gpus import GpuSurvey
from attn_export.exporter.system.jetson import Jetson, find_jetson
from attn_export.exporter.system.jobs import Job, jobs
from attn_export.exporter.system.libraries import WANTED, Library, Wanted, error_text, import_isolated, look_for
from attn_export.exporter.system.machine import Memory, cpu_name, memory, operating_system, usable_cpus
from attn_export.exporter.system.missing import Missing, missing
from attn_export.exporter.system.packages import installed

Found = TypeVar("Found")
UNSEEN = "couldn't be looked for: {}"


@dataclass(frozen=True)
class Machine:
    """The machine without its libraries and GPUs."""

    attn_export: str | None
    python: str
    executable: str
    system: str
    cpu: str
    cpus: int
    memory: Memory
    cache: str
    cache_bytes: int


@dataclass(frozen=True)
class Survey:
    """Everything that doctor reports."""

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
            "gpus": to_builtins(self.gpus.gpus),
            "gpu_trouble": self.gpus.trouble or None,
            "jetson": asdict(self.jetson) | {"jetpack": self.jetson.jetpack} if self.jetson else None,
            "jobs": [asdict(job) for job in self.jobs],
            "missing": [asdict(part) for part in self.missing],
        }


def survey(advance: Callable[[float], None] = lambda _: None) -> Survey:
    """Run all probes in parallel; failures are reported and don't affect the others.

    ``advance`` receives the finished share, 0..1.
    """
    with ThreadPoolExecutor(max_workers=len(WANTED) + 1) as pool:
        gpu_probe = pool.submit(find_gpus)
        probes = [pool.submit(look_for, wanted) for wanted in WANTED]
        everything: list[Future[Any]] = [gpu_probe, *probes]
        for done, _ in enumerate(as_completed(everything), start=1):
            advance(done / (len(WANTED) + 1))
    libraries = tuple(
        guarded(future.result, partial(unseen_library, wanted)) for future, wanted in zip(probes, WANTED, strict=True)
    )
    found = guarded(gpu_probe.result, lambda error: GpuSurvey(trouble=UNSEEN.format(error)))
    jetson = guarded(find_jetson, lambda _: None)
    by_name = {library.wanted.name: library for library in libraries}
    return Survey(
        machine=machine(),
        libraries=libraries,
        gpus=found,
        jetson=jetson,
        jobs=jobs(by_name, found, jetson),
        missing=missing(by_name, found, jetson),
    )


def machine() -> Machine:
    """The facts that need no probe."""
    return Machine(
        attn_export=installed("attn-export"),
        python=platform.python_version(),
        executable=sys.executable,
        system=guarded(operating_system, lambda _: sys.platform),
        cpu=guarded(cpu_name, lambda _: platform.machine()),
        cpus=usable_cpus(),
        memory=guarded(memory, lambda _: Memory(None, None)),
        cache=str(cache_folder()),
        cache_bytes=guarded(lambda: bytes_in(cache_folder()), lambda _: 0),
    )


def find_gpus() -> GpuSurvey:
    """The GPUs, from a separate process, because a driver may hang or crash."""
    answer = import_isolated(gpus.__name__)
    if "error" in answer:
        return GpuSurvey(trouble=f"the CUDA driver doesn't answer: {error_text(answer)}")
    return convert(answer["survey"], GpuSurvey)


def unseen_library(wanted: Wanted, error: Exception) -> Library:
    """A library whose probe failed."""
    return Library(wanted, None, UNSEEN.format(error))


def guarded(probe: Callable[[], Found], otherwise: Callable[[Exception], Found]) -> Found:
    """The probe's result, or its replacement if the probe fails."""
    try:
        return probe()
    except Exception as error:  # noqa: BLE001 (a report of what is broken must not break)
        return otherwise(error)
