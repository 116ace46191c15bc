"""Digests of a folder's files, compared with those that are known."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from attn_export.exporter.errors import ChangedPackageError
from attn_export.exporter.system.files import sha256_of, size_of

COPY_AGAIN = "Copy the folder again from where it was made. What was changed on purpose has to be packaged again."


def files_in(folder: Path) -> dict[str, Path]:
    """The files in a folder and the folders in it, by relative name with slashes."""
    files = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {path.relative_to(folder).as_posix(): path for path in files}


def digest_of(file: Path, expected: int | None) -> str:
    """The sha256 of a file; empty for one of another size than expected, which may take hours to read.

    Raises:
        OSError: it can't be read.
    """
    return sha256_of(file) if expected in (None, size_of(file)) else ""


def check_digests(folder: Path, known: Mapping[str, str], found: Mapping[str, str], added: Iterable[str] = ()) -> None:
    """Compare all files of a folder with their digests.

    ``added`` are names that may be there besides.

    Raises:
        ChangedPackageError: a file was changed, is missing, or is new; the message names each.
    """
    changed = [f"{name} was changed" for name in known if name in found and found[name] != known[name]]
    missing = [f"{name} is missing" for name in known if name not in found]
    new = [f"{name} isn't part of it" for name in found if name not in known and name not in set(added)]
    if trouble := [*changed, *missing, *new]:
        raise ChangedPackageError(f"{folder} isn't as it was packaged: {', '.join(trouble)}", hint=COPY_AGAIN)
