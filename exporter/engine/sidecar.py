"""The file beside an engine: what it is, and whether it may be loaded.

The engine itself is TensorRT's plain file, which trtexec and other programs load. ``<name>.engine.json`` beside it says
what it was built with and for, and the hash of its bytes. The hash shows that the file is whole and belongs to this
record. It doesn't show that its maker meant well: who can change the engine can change the record.
"""

import platform
from collections.abc import Sequence
from pathlib import Path

from attn_export.exporter.engine.backend import Backend
from attn_export.exporter.errors import UnreadableEngineError, UntrustedEngineError
from attn_export.exporter.records.document import DocumentError, decode, encode
from attn_export.exporter.records.engine import PORTABLE, EngineRecord
from attn_export.exporter.system.files import sha256_of, write_text
from attn_export.exporter.system.gpus import Gpu

# Compute capabilities that an engine for no GPU in particular serves: TensorRT-RTX's documentation of CPU-only builds,
# and the classic one's of hardware compatibility ("AMPERE_PLUS").
SMALLEST_PORTABLE = 80
BUILD_AGAIN = "Build the engine again."


def sidecar_path(engine: Path) -> Path:
    """The sidecar of an engine."""
    return engine.with_name(f"{engine.name}.json")


def this_platform() -> str:
    """Operating system and processor, which an engine is bound to."""
    return f"{platform.system().lower()}-{platform.machine().lower()}"


def read_sidecar(engine: Path) -> EngineRecord | None:
    """The record beside an engine; None where there is no file.

    Raises:
        UnreadableEngineError: it isn't such a record.
    """
    path = sidecar_path(engine)
    try:
        return decode(path.read_bytes(), EngineRecord)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnreadableEngineError(f"{path} can't be read: {error.strerror or error}", hint=BUILD_AGAIN) from error
    except DocumentError as error:
        raise UnreadableEngineError(f"{path} is no record of an engine: {error}", hint=BUILD_AGAIN) from error


def write_sidecar(engine: Path, record: EngineRecord) -> None:
    """Write the record beside an engine.

    Raises:
        OutputError: it can't be written.
    """
    write_text(sidecar_path(engine), encode(record))


def check_file(engine: Path, *, trust: bool) -> EngineRecord | None:
    """Whether an engine may be handed to TensorRT, as far as its bytes tell.

    Returns:
        Its record; None for one without that is trusted.

    Raises:
        UnreadableEngineError: it is missing, empty, truncated, or its record is damaged.
        UntrustedEngineError: it has no record, or was changed since, and isn't trusted.
    """
    try:
        size = engine.stat().st_size
        with engine.open("rb"):  # a folder, or somebody else's, can't be
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
            f"{engine} has no record of where it came from ({sidecar_path(engine).name})",
            hint="An engine is a program. Copy its record along, build it again, or use --trust if you know its maker.",
        )
    if size < record.bytes:
        raise UnreadableEngineError(
            f"{engine} is truncated: it has {size} of {record.bytes} bytes", hint="Copy it again."
        )
    if sha256_of(engine) != record.sha256 and not trust:
        raise UntrustedEngineError(
            f"{engine} was changed after it was built: its hash isn't the one in {sidecar_path(engine).name}",
            hint="An engine is a program. Build it again, or use --trust if you know who changed it.",
        )
    return record


def check_fits(record: EngineRecord, engine: Path, backend: Backend, here: Sequence[Gpu]) -> None:
    """Whether an engine can run on this machine, before TensorRT sees it.

    Raises:
        UnreadableEngineError: it was built for another version, GPU or system; the error says which.
    """
    if not _runs_with(record, backend):
        raise UnreadableEngineError(
            f"{engine} was built by {record.backend.name} {record.backend.version}, and here is {backend}",
            hint="An engine runs with the version that built it: build it again.",
        )
    if record.platform != this_platform():
        raise UnreadableEngineError(
            f"{engine} was built for {record.platform}, and this is {this_platform()}", hint="Build it again here."
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
    later_too = record.options.version_compatible and not backend.is_rtx
    return later_too and _ordered(built_by.version) <= _ordered(backend.version)


def _ordered(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isascii() and part.isdigit())


def why_not_here(serves: Sequence[str], hardware_compatible: bool, here: Sequence[Gpu]) -> str | None:
    """Why an engine doesn't run on this machine's GPU, None where it does.

    Args:
        serves: the architectures that it was built for.
        hardware_compatible: whether it was built for others from sm80 on too.
        here: this machine's GPUs; the first one runs it.
    """
    if not here:
        return "no GPU"
    own = here[0]
    any_gpu = PORTABLE in serves or hardware_compatible
    if own.architecture in serves or (any_gpu and int(own.architecture[2:]) >= SMALLEST_PORTABLE):
        return None
    return f"was built for {', '.join(map(str, serves))}, and this machine's {own.name} is {own.architecture}"
