"""A bundle's files, in a zip or in the folder that it was extracted to; every file is checked before it is used."""

import hashlib
import json
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from attn_export.exporter.errors import UnreadableBundleError
from attn_export.exporter.system.files import HASHED_BYTES, unwritable

MANIFEST, README, ARRAYS = "bundle.json", "README.md", "sample.npz"
MIB = 2**20
# Larger ones aren't what `write_bundle` writes. Of the graph and its weights nothing is known beforehand.
LARGEST = {MANIFEST: 64 * MIB, README: MIB, ARRAYS: 256 * MIB}
LARGEST_GRAPH = 64 * 1024 * MIB
# Deflate makes a thousandth of zeros; weights of this size that shrink like that are none.
SUSPICIOUS_BYTES, SUSPICIOUS_RATIO = 1024 * MIB, 200
# What Python's zipfile raises for one that is damaged, or packed in a way that it doesn't know.
DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError)
COPY_AGAIN = "Was it copied completely? Copy the bundle again, or write it again."


def unreadable(path: Path, reason: str, hint: str = COPY_AGAIN) -> UnreadableBundleError:
    """The sentence for a bundle that can't be used."""
    return UnreadableBundleError(f"{path} is not a whole deployment bundle: {reason}", hint=hint)


def is_plain(name: str) -> bool:
    """Whether a member's name is a file's name and no way to anywhere else, on any system."""
    return bool(name) and name not in (".", "..") and not set(name) & set("/\\:\0") and name.isprintable()


@dataclass(frozen=True)
class Members:
    """The files of one bundle.

    Attributes:
        path: the zip or the folder.
        sizes: by name, as the zip or the folder says.
    """

    path: Path
    sizes: Mapping[str, int]

    @property
    def is_zip(self) -> bool:
        """Whether the files have to be extracted."""
        return not self.path.is_dir()

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """One file's bytes.

        Raises:
            UnreadableBundleError: it isn't there, or can't be read.
        """
        if name not in self.sizes:
            raise unreadable(self.path, f"{name} is missing")
        try:
            if self.is_zip:
                with zipfile.ZipFile(self.path) as archive, archive.open(name) as stream:
                    yield stream
            else:
                with (self.path / name).open("rb") as stream:
                    yield stream
        except (*DAMAGED, OSError) as error:
            raise unreadable(self.path, f"{name} can't be read ({error})") from error

    def read(self, name: str) -> bytes:
        """A small file.

        Raises:
            UnreadableBundleError: it isn't there, can't be read or is larger than it may be.
        """
        with self.open(name) as stream:
            content = stream.read(LARGEST[name] + 1)
        if len(content) > LARGEST[name]:
            raise unreadable(self.path, f"{name} is absurdly large")
        return content

    def check(self, listed: Mapping[str, tuple[int, str]], *, to: Path | None = None, only: str = "") -> None:
        """Compare every file with what ``bundle.json`` lists, and extract them on the way if asked.

        Args:
            listed: name -> bytes and sha256.
            to: a folder to extract to.
            only: the start of the names that are looked at.

        Raises:
            UnreadableBundleError: one is missing, or isn't the one that is listed.
            OutputError: it can't be extracted.
        """
        for name, (size, sha256) in listed.items():
            if name.startswith(only):
                self._check(name, size, sha256, to)

    def _check(self, name: str, size: int, sha256: str, to: Path | None) -> None:
        if name in self.sizes and self.sizes[name] != size:
            raise unreadable(self.path, f"{name} has {self.sizes[name]} bytes, and bundle.json lists {size}")
        digest, left = hashlib.sha256(), size
        with self.open(name) as stream:
            target = _opened(to / name) if to is not None else None
            try:
                while left >= 0 and (block := stream.read(HASHED_BYTES)):
                    digest.update(block)
                    left -= len(block)
                    if target is not None:
                        _append(target, block)
            finally:
                if target is not None:
                    target.close()
        if left or digest.hexdigest() != sha256:
            raise unreadable(self.path, f"the checksum of {name} isn't the one in bundle.json")


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("wb")
    except OSError as error:
        raise unwritable(path, error) from error


def _append(target: IO[bytes], block: bytes) -> None:
    try:
        target.write(block)
        target.flush()
    except OSError as error:
        raise unwritable(Path(target.name), error) from error


def find_members(path: Path) -> Members:
    """What there is, before any of it is read.

    Raises:
        UnreadableBundleError: there is nothing, it is no zip, or it holds what no bundle holds.
    """
    if path.is_dir():
        return Members(path, {file.name: file.stat().st_size for file in path.iterdir() if _is_own(file)})
    try:
        if path.stat().st_size == 0:
            raise UnreadableBundleError(f"{path} is empty", hint=COPY_AGAIN)
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except DAMAGED as error:
        raise unreadable(path, "it is no zip file, or a damaged one") from error
    except OSError as error:
        raise UnreadableBundleError(
            f"{path} can't be read: {error.strerror or error}", hint="Expected is the path of a deployment bundle."
        ) from error
    for entry in entries:
        _refuse_odd(entry, path)
    sizes = {entry.filename: entry.file_size for entry in entries}
    if len(sizes) < len(entries):
        raise unreadable(path, "it holds two files of one name")
    return Members(path, sizes)


def _is_own(file: Path) -> bool:
    """A file that stands in the folder itself: a link would lead out of it."""
    return file.is_file() and not file.is_symlink()


def _refuse_odd(entry: zipfile.ZipInfo, path: Path) -> None:
    """Raises UnreadableBundleError for what no bundle holds, and what would harm who extracts it."""
    name, kind = entry.filename, stat.S_IFMT(entry.external_attr >> 16)
    hint = "attn-export never writes such a file. Where does this one come from?"
    if entry.orig_filename != name or not is_plain(name):
        raise unreadable(path, f"it holds {entry.orig_filename!r}, a name that leads elsewhere", hint)
    if kind not in (0, stat.S_IFREG):
        raise unreadable(path, f"{name} is a link or something else that isn't a file", hint)
    packed = max(entry.compress_size, 1)
    if entry.file_size > LARGEST.get(name, LARGEST_GRAPH) or (
        entry.file_size > SUSPICIOUS_BYTES and entry.file_size > SUSPICIOUS_RATIO * packed
    ):
        raise unreadable(path, f"{name} would have {entry.file_size} bytes, which is absurd", hint)


def read_manifest(members: Members) -> dict[str, Any]:
    """The content of ``bundle.json``.

    Raises:
        UnreadableBundleError: it isn't there, or isn't JSON.
    """
    try:
        document = json.loads(members.read(MANIFEST))
    except (ValueError, RecursionError) as error:
        raise unreadable(members.path, f"{MANIFEST} is damaged") from error
    if not isinstance(document, dict):
        raise unreadable(members.path, f"{MANIFEST} is damaged")
    return document
