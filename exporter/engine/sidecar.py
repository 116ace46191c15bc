"""The sidecar of an engine, and the checks before loading it.

The engine is TensorRT's plain file, which other programs can load. ``<name>.engine.json`` records its origin and hash.
The hash shows that the file is complete and belongs to the record, but not that its author is trustworthy: whoever can
change the engine can change the record.
"""

import platform
from collections.abc import Sequence
from pathlib import Path

from msgspec import structs

from attn_export.exporter.engine.backend import Backend
from attn_export.exporter.errors import UnreadableEngineError, UntrustedEngineError
from attn_export.exporter.records.document import DocumentError, decode, encode
from attn_export.exporter.records.engine import PORTABLE, EngineFile, EngineRecord
from attn_export.exporter.records.verdict import Verdict
from attn_export.exporter.system.files import read_whole, sha256_of, size_of, write_text
from attn_export.exporter.system.gpus import Gpu

# The lowest compute capability that portable engines run on: TensorRT-RTX's documentation of CPU-only builds, and
# TensorRT's of hardware compatibility ("AMPERE_PLUS").
MIN_PORTABLE = 80
BUILD_AGAIN = "Build the engine again."
MOST_BYTES = 2**26  # of a sidecar


def sidecar_path(engine: Path) -> Path:
    """``<name>.engine.json``."""
    return engine.with_name(f"{engine.name}.json")


def this_platform() -> str:
    """Operating system and CPU architecture, to which an engine is bound."""
    return f"{platform.system().lower()}-{platform.machine().lower()}"


def read_sidecar(engine: Path) -> EngineRecord | None:
    """The record of an engine; None without a sidecar.

    Raises:
        UnreadableEngineError: the sidecar can't be read or isn't valid.
    """
    path = sidecar_path(engine)
    try:
        return decode(read_whole(path, MOST_BYTES), EngineRecord)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnreadableEngineError(f"{path} can't be read: {error.strerror or error}", hint=BUILD_AGAIN) from error
    except DocumentError as error:
        raise UnreadableEngineError(f"{path} is not the record of an engine: {error}", hint=BUILD_AGAIN) from error


def write_sidecar(engine: Path, record: EngineRecord) -> None:
    """Write the sidecar; raises OutputError."""
    write_text(sidecar_path(engine), encode(record))


def add_validation(engine: EngineFile, verdict: Verdict) -> EngineFile:
    """Write the verdict on an engine into its sidecar. Raises OutputError: it can't be written."""
    record = structs.replace(engine.record, validation=verdict)
    write_sidecar(engine.path, record)
    return EngineFile(engine.path, record)


def check_file(engine: Path, *, trust: bool) -> EngineRecord | None:
    """Check an engine's bytes before TensorRT loads them; returns its record, None for a trusted engine without one.

    Raises:
        UnreadableEngineError: it is missing, empty, truncated, or its sidecar is damaged.
        UntrustedEngineError: it has no sidecar or was changed, and ``trust`` is off.
    """
    try:
        size = size_of(engine)
        with engine.open("rb"):  # fails for folders and without permission
            pass
    except OSError as error:
        raise UnreadableEngineError(
            f"{engine} can't be read: {error.strerror or error}", hint="Expected is the path of an engine."
        ) from error
    if size == 0:
        raise UnreadableEngineError(f"{engine} is empty", hint="Was it copied completely?")
    record = read_sidecar(engine)
    if record is None:
        if trust:
            return None
        raise UntrustedEngineError(
            f"{engine} has no record of its origin ({sidecar_path(engine).name})",
            hint="An engine is a program. Copy its record too, build it again, or use --trust if you trust its author.",
        )
    if size < record.bytes:
        raise UnreadableEngineError(
            f"{engine} is truncated: it has {size} of {record.bytes} bytes", hint="Copy it again."
        )
    if not trust and (size != record.bytes or sha256_of(engine) != record.sha256):
        raise UntrustedEngineError(
            f"{engine} was changed after its build: its hash differs from the one in {sidecar_path(engine).name}",
            hint="An engine is a program. Build it again, or use --trust if you know who changed it.",
        )
    return record


def check_fits(record: EngineRecord, engine: Path, backend: Backend, here: Sequence[Gpu]) -> None:
    """Check that an engine can run on this machine, before TensorRT loads it.

    Raises:
        UnreadableEngineError: it was built for another version, GPU or system.
    """
    if not _runs_with(record, backend):
        raise UnreadableEngineError(
            f"{engine} was built by {record.backend.name} {record.backend.version}, but {backend} is installed",
            hint="An engine needs the version that built it: build it again.",
        )
    if record.platform != this_platform():
        raise UnreadableEngineError(
            f"{engine} was built for {record.platform}, but this machine is {this_platform()}",
            hint="Build it again here.",
        )
    reason = why_not_here(record.gpus, record.options.hardware_compatible, here)
    if here and reason:
        raise UnreadableEngineError(f"{engine} {reason}", hint=f"Build it for this one: --gpu {here[0].architecture}.")


def _runs_with(record: EngineRecord, backend: Backend) -> bool:
    built_by = record.backend
    if built_by.name != backend.name:
        return False
    if built_by.version == backend.version:
        return True
    forward = record.options.version_compatible and not backend.is_rtx
    return forward and _ordered(built_by.version) <= _ordered(backend.version)


def _ordered(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isascii() and part.isdigit())


def why_not_here(serves: Sequence[str], hardware_compatible: bool, here: Sequence[Gpu]) -> str | None:
    """The reason why an engine can't run on this machine's GPU; None if it can.

    ``serves`` are the architectures of its build; the first GPU runs it.
    """
    if not here:
        return "no GPU"
    gpu = here[0]
    any_gpu = PORTABLE in serves or hardware_compatible
    if gpu.architecture in serves or (any_gpu and int(gpu.architecture[2:]) >= MIN_PORTABLE):
        return None
    return f"was built for {', '.join(map(str, serves))}, but this machine's {gpu.name} is {gpu.architecture}"
