"""The GPUs and their driver, as `nvidia-smi` tells them."""

import csv
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from attn_export.exporter.system.process import Finished, ask

FIELDS = ("name", "driver_version", "memory.total", "compute_cap")
# Drivers before R510 don't know the compute capability, and refuse the whole question.
OLDER_FIELDS = FIELDS[:3]
SECONDS = 4.0


@dataclass(frozen=True)
class Gpu:
    """One GPU; None is what the driver doesn't say.

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

    @property
    def architecture(self) -> str | None:
        """As TensorRT writes it: sm89."""
        return f"sm{self.compute_capability.replace('.', '')}" if self.compute_capability else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class GpuSurvey:
    """The GPUs that were found, and why there are none or what went wrong, in words."""

    gpus: tuple[Gpu, ...] = ()
    trouble: str = ""


def look_for_gpus() -> GpuSurvey:
    """Ask the driver. Whatever goes wrong becomes words."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return GpuSurvey(trouble="there is no nvidia-smi, so probably no NVIDIA driver")
    try:
        finished = _query(program, FIELDS)
        if finished and finished.code and "compute_cap" in finished.out + finished.err:
            finished = _query(program, OLDER_FIELDS)
    except OSError as error:
        return GpuSurvey(trouble=f"nvidia-smi can't be started: {error.strerror or error}")
    if finished is None:
        return GpuSurvey(trouble=f"nvidia-smi didn't answer within {SECONDS:.0f} s: the driver hangs")
    if finished.code:
        # It says what is wrong on standard output.
        said = [line.strip() for line in (finished.out + "\n" + finished.err).splitlines() if line.strip()]
        return GpuSurvey(trouble=f"nvidia-smi failed: {said[0] if said else f'exit code {finished.code}'}")
    gpus = parse(finished.out)
    return GpuSurvey(gpus, "" if gpus else "nvidia-smi lists no GPU")


def parse(text: str) -> tuple[Gpu, ...]:
    """A line for each GPU, in the order of `FIELDS`, without units; lines of another form are left out."""
    found = []
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        if len(row) not in (len(OLDER_FIELDS), len(FIELDS)):
            continue
        name, driver, megabytes, capability = [*(_known(value) for value in row), None][: len(FIELDS)]
        memory = int(megabytes) if megabytes and megabytes.isdecimal() else None
        found.append(Gpu(name or "unnamed GPU", driver, memory, capability))
    return tuple(found)


def _query(program: str, fields: Sequence[str]) -> Finished | None:
    return ask([program, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"], SECONDS)


def _known(value: str) -> str | None:
    """``[N/A]``, ``[Not Supported]`` and their like are no values."""
    value = value.strip()
    return None if not value or value.startswith("[") or value in ("N/A", "Unknown Error") else value
