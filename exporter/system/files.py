"""Writes, names and hashes files."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from attn_export.exporter.errors import InputError, OutputError

HASHED_BYTES = 2**20
SCRATCH = ".attn-export-"


def publish(temporary: Path, path: Path) -> None:
    """Publish a finished file under its name, after syncing it to the disk.

    Raises:
        OutputError: it can't, or ``path`` is a device; it is as it was.
    """
    if is_taken(path) and not (path.is_file() or path.is_dir()):
        raise OutputError(
            f"{path} is there and is no file, so it isn't replaced", hint="Choose another name for the result."
        )
    try:
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error


def is_taken(path: Path) -> bool:
    """Whether something has the name of a result.

    Raises:
        OutputError: no file can have it: it is too long, or a link leads to itself.
    """
    try:
        return path.exists()
    except OSError as error:
        raise unwritable(path, error) from error


def check_names(names: Iterable[str]) -> None:
    """Check the names of a command line, and the current folder's.

    Raises:
        InputError: a name isn't UTF-8, in which ONNX, TensorRT and JSON keep names.
        OutputError: the current folder was deleted; libraries end the process then.
    """
    try:
        folder = str(Path.cwd())
    except OSError as error:
        raise OutputError("the current folder was deleted", hint="Change to another.") from error
    for name in (folder, *names):
        if name != name.encode("utf-8", "replace").decode():
            raise InputError(
                f"{name} isn't a name in UTF-8",
                hint="Give it another name (`mv`), or set a locale of UTF-8: LC_ALL=C.UTF-8",
            )


def write_text(path: Path, text: str) -> None:
    """Write a text file.

    Raises:
        OutputError: it can't be written.
    """
    try:
        path.write_text(text, encoding="utf-8", errors="backslashreplace")  # names that aren't UTF-8
    except OSError as error:
        raise unwritable(path, error) from error


def size_of(path: Path) -> int:
    """Bytes of a file or link to one.

    Raises:
        OSError: it can't be read, or is a pipe or a device, which may have no end.
    """
    facts = path.stat()
    if not (stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode)):
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return facts.st_size


def total_bytes(*paths: Path) -> int:
    """Bytes of files; those that can't be read count nothing."""
    total = 0
    for path in paths:
        with suppress(OSError, ValueError):
            total += path.stat().st_size
    return total


def read_whole(path: Path, most: int) -> bytes:
    """The content of a file.

    Raises:
        OSError: as `size_of`, or it has more than ``most`` bytes.
    """
    if size_of(path) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most / 2**20:.0f} MiB", str(path))
    return path.read_bytes()


def unwritable(path: Path, error: OSError) -> OutputError:
    """The error for a file or folder that can't be written, without the hidden folder's path."""
    path = Path(*(part for part in path.parts if not part.startswith(SCRATCH)))
    return OutputError(
        f"{path} can't be written: {error.strerror or error}",
        hint="Choose another folder for the result, or make room on the disk.",
    )


def sha256_of(path: Path) -> str:
    """Hexadecimal digest of a file's bytes.

    Raises:
        OSError: as `size_of`.
    """
    size_of(path)
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(HASHED_BYTES):
            digest.update(block)
    return digest.hexdigest()


def is_file_name(name: str) -> bool:
    """Whether a name is a plain file name on every system, without a path to another folder."""
    return name not in ("", ".", "..") and not set(name) & set("/\\:\0") and name.isprintable()


def check_portable(name: str) -> None:
    """Check the name of a file that goes to another machine. Raises OutputError: not every system can have it."""
    if not is_file_name(name):
        raise OutputError(f"not every system can have a file called {name}", hint="Rename it, without : and \\.")


def unique_names(paths: Sequence[Path]) -> tuple[str, ...]:
    """A distinct name for each file: its name, with as many parent folders as needed."""
    parts = [path.resolve().parts for path in paths]

    def name(own: tuple[str, ...]) -> str:
        rivals = [other for other in parts if other is not own and other[-1] == own[-1]]
        fewest = next((n for n in range(1, len(own)) if all(other[-n:] != own[-n:] for other in rivals)), len(own))
        return "/".join(own[-fewest:])

    return tuple(map(name, parts))


def paths_of(given: object) -> list[Path]:
    """One path or several, as a caller from Python passes them.

    Raises:
        InputError: something in it is no path.
    """
    entries = given if isinstance(given, Iterable) and not isinstance(given, str | bytes) else (given,)
    paths = []
    for entry in entries:
        if not isinstance(entry, str | Path):
            raise InputError(
                f"expected is the path of a file, and a {type(entry).__name__} was passed",
                hint="Save it to a file and pass its path.",
            )
        paths.append(Path(entry))
    return paths
