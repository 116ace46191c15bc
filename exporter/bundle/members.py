"""The files of a bundle, in the zip or in a folder that it was extracted to, read with their checksums verified."""

import hashlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from attn_export.exporter.bundle.manifest import GOLDEN, MANIFEST, README, Member
from attn_export.exporter.errors import UnreadableBundleError
from attn_export.exporter.system.files import HASHED_BYTES, is_file_name

MIB = 2**20
MAX_BYTES = {MANIFEST: 64 * MIB, README: MIB, GOLDEN: 256 * MIB}
MAX_GRAPH_BYTES = 64 * 1024 * MIB
# Deflate compresses zeros a thousandfold, and weights by a few percent.
SUSPICIOUS_BYTES, SUSPICIOUS_RATIO = 1024 * MIB, 200
# Raised by zipfile for a damaged zip, or one with an unknown compression or a password.
DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError)
COPY_AGAIN = "Copy the bundle again, or write it again with this version of attn-export."
FOREIGN = "attn-export doesn't write such files. Where does this bundle come from?"


def unreadable(path: Path, reason: str, hint: str = COPY_AGAIN) -> UnreadableBundleError:
    """The error for a bundle that can't be used."""
    return UnreadableBundleError(f"{path} is not a valid deployment bundle: {reason}", hint=hint)


@dataclass(frozen=True)
class Members:
    """The files of a bundle. ``sizes``: bytes by file name, as the zip or the folder declares them."""

    path: Path
    sizes: Mapping[str, int]

    @property
    def is_zip(self) -> bool:
        """Whether the files are in a zip."""
        return not self.path.is_dir()

    @contextmanager
    def _open(self, name: str) -> Iterator[IO[bytes]]:
        if self.is_zip:
            with zipfile.ZipFile(self.path) as archive, archive.open(name) as stream:
                yield stream
        else:
            with (self.path / name).open("rb") as stream:
                yield stream

    def blocks(self, name: str) -> Iterator[bytes]:
        """The content of a file, in blocks. Raises UnreadableBundleError: it is missing, too large or damaged."""
        if name not in self.sizes:
            raise unreadable(self.path, f"{name} is missing")
        if self.sizes[name] > MAX_BYTES.get(name, MAX_GRAPH_BYTES):
            raise unreadable(self.path, f"{name} is too large ({self.sizes[name]} bytes)", FOREIGN)
        try:
            with self._open(name) as stream:
                while block := stream.read(HASHED_BYTES):
                    yield block
        except (*DAMAGED, OSError) as error:
            raise unreadable(self.path, f"{name} can't be read ({error})") from error

    def verified(self, name: str, listed: Member) -> Iterator[bytes]:
        """The same, compared with the manifest. The last block comes before the checksum is known.

        Raises:
            UnreadableBundleError: as `blocks`, or size or checksum differ.
        """
        if (size := self.sizes.get(name, listed.bytes)) != listed.bytes:
            raise unreadable(self.path, f"{name} has {size} bytes, and {MANIFEST} lists {listed.bytes}")
        digest = hashlib.sha256()
        for block in self.blocks(name):
            digest.update(block)
            yield block
        if digest.hexdigest() != listed.sha256:
            raise unreadable(self.path, f"the checksum of {name} differs from the one in {MANIFEST}")


def find_members(path: Path) -> Members:
    """List the files of a bundle, without reading them.

    Raises:
        UnreadableBundleError: the path is missing, no zip, or a zip with entries that no bundle has.
    """
    if path.is_dir():  # links may lead out of the folder
        files = [file for file in path.iterdir() if file.is_file() and not file.is_symlink()]
        return Members(path, {file.name: file.stat().st_size for file in files})
    try:
        if path.stat().st_size == 0:
            raise UnreadableBundleError(f"{path} is empty", hint=COPY_AGAIN)
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except DAMAGED as error:
        raise unreadable(path, "it is not a zip file, or a damaged one") from error
    except OSError as error:
        raise UnreadableBundleError(
            f"{path} can't be read: {error.strerror or error}", hint="Expected the path of a deployment bundle."
        ) from error
    sizes = {entry.filename: entry.file_size for entry in entries}
    if len(sizes) < len(entries):
        raise unreadable(path, "it has two files of the same name", FOREIGN)
    for entry in entries:
        _check_entry(entry, path)
    return Members(path, sizes)


def _check_entry(entry: zipfile.ZipInfo, path: Path) -> None:
    """Refuse entries that would harm whoever extracts the zip with another program."""
    name, size = entry.orig_filename, entry.file_size
    if not is_file_name(name):
        raise unreadable(path, f"{name!r} is not a plain file name", FOREIGN)
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
        raise unreadable(path, f"{name} is not a regular file", FOREIGN)
    if size > SUSPICIOUS_BYTES and size > SUSPICIOUS_RATIO * entry.compress_size:
        raise unreadable(path, f"{name} is too large ({size} bytes, compressed {entry.compress_size})", FOREIGN)
