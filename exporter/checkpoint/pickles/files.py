"""The pickles in files of torch.save and torch.jit.save, with the storages that they refer to."""

import io
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any

import torch

from attn_export.exporter.checkpoint.inert import Inert
from attn_export.exporter.checkpoint.pickles.names import Storage
from attn_export.exporter.checkpoint.pickles.unpickler import Bounded, InertUnpickler
from attn_export.exporter.checkpoint.tensors import Views, tensor_of

# The first pickle of a file of torch.save before PyTorch 1.6, and the second.
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
PIECE = 2**20
BYTE_ORDER = "byteorder"


@dataclass
class PickleReader:
    """Reads the pickles of a file.

    Attributes:
        names: those that aren't harmless, in order of appearance; complete after reading.
    """

    known: Mapping[str, Any] = field(default_factory=dict)
    called: frozenset[str] = frozenset()
    names: dict[str, Any] = field(default_factory=dict)

    def read(self, stream: IO[bytes], size: int) -> Any:
        """The object in a file.

        Raises:
            pickle.UnpicklingError: it can't be made without what it names, or is no pickle of torch's.
            TooMuchError: see `InertUnpickler`.
            Exception: of many types, it is damaged.
        """
        is_archive = stream.read(2) == b"PK"
        stream.seek(0)
        if not is_archive:
            return self._before_archives(stream, size)
        with zipfile.ZipFile(stream) as archive:
            return self._in_archive(archive, Views(size))

    def _load(self, stream: Any, persistent: Callable[[Any], Any]) -> Any:
        unpickler = InertUnpickler(stream, persistent, known=self.known, called=self.called, names=self.names)
        return unpickler.load()

    def _in_archive(self, archive: zipfile.ZipFile, views: Views) -> Any:
        """``ROOT/data.pkl`` and ``ROOT/data/KEY``."""
        root = next(name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl"))[:-8]
        if f"{root}{BYTE_ORDER}" in archive.namelist() and part_of(archive, f"{root}{BYTE_ORDER}") != b"little":
            raise ValueError("its numbers are big-endian")
        contents: dict[str, torch.Tensor] = {}

        def storage(pid: Any) -> Any:
            if (found := _storage_of(pid)) is None:
                return Inert()
            dtype, key, count = found
            if key not in contents:
                contents[key] = bytes_of(archive, f"{root}data/{key}")
            if count * dtype.itemsize > contents[key].numel():
                raise ValueError(f"its storage {key} is cut off")
            return Storage(contents[key], dtype, views)

        content = part_of(archive, f"{root}data.pkl")
        return self._load(Bounded(io.BytesIO(content), len(content)), storage)

    def _before_archives(self, stream: IO[bytes], size: int) -> Any:
        """Pickles one after the other: two numbers, facts of the machine, the object, its storages' keys; their bytes.

        The object stands before the bytes of its storages: these are filled in afterwards.
        """
        bounded, views = Bounded(stream, size), Views(size)
        contents: dict[Any, torch.Tensor] = {}

        def storage(pid: Any) -> Any:
            if isinstance(pid, tuple) and len(pid) > 1 and pid[0] == "module":
                return pid[1]
            if (found := _storage_of(pid)) is None:
                return Inert()
            dtype, key, count = found
            if count * dtype.itemsize > size:
                raise ValueError(f"its storage {key} is cut off")
            content = contents.setdefault(key, torch.empty(count * dtype.itemsize, dtype=torch.uint8))
            if len(pid) > 5 and pid[5] is not None:  # a view of it: key, offset and size in elements
                _, offset, length = pid[5]
                content = content[offset * dtype.itemsize : (offset + length) * dtype.itemsize]
            return Storage(content, dtype, views)

        if self._load(bounded, storage) != MAGIC:
            raise pickle.UnpicklingError("Invalid magic number; corrupt file?")
        if self._load(bounded, storage) != PROTOCOL:
            raise pickle.UnpicklingError("Invalid protocol version")
        self._load(bounded, storage)
        found = self._load(bounded, storage)
        for key in self._load(bounded, storage):
            (count,) = struct.unpack("<q", bounded.read(8))
            content = contents[str(key)]
            if count < 0 or content.numel() % max(count, 1) or bool(count) != bool(content.numel()):
                raise ValueError(f"its storage {key} has another size")
            content.copy_(tensor_of(bounded.read(content.numel())))
        return found


def names_in(stream: IO[bytes], size: int) -> list[str]:
    """The names in a pickle that aren't harmless; of a damaged one those up to the damage."""
    reader = PickleReader()
    with suppress(Exception):
        reader.read(stream, size)
    return list(reader.names)


def part_of(archive: zipfile.ZipFile, name: str) -> bytes:
    """A part of an archive."""
    return archive.read(_entry(archive, name))


def bytes_of(archive: zipfile.ZipFile, name: str) -> torch.Tensor:
    """A part of an archive as a tensor of uint8, read piece by piece: copies of whole storages would take memory.

    Raises:
        ValueError: the part is shorter than the archive says.
    """
    entry = _entry(archive, name)
    found = torch.empty(entry.file_size, dtype=torch.uint8)
    done = 0
    with archive.open(entry) as stream:
        while piece := stream.read(PIECE):
            found[done : done + len(piece)] = tensor_of(piece)
            done += len(piece)
    if done < entry.file_size:
        raise ValueError(f"its part {name} is cut off")
    return found


def _entry(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """One without a checksum, as `torch.serialization.set_crc32_options` allows, is taken too."""
    entry = archive.getinfo(name)
    if not entry.CRC:
        entry.CRC = None  # type: ignore[assignment] # the library then doesn't check it
    return entry


def _storage_of(pid: Any) -> tuple[torch.dtype, str, int] | None:
    """Type, key and number of elements of a storage, from ("storage", type, key, place, number, ...).

    None for one of an unknown type, and for the text that protocol 0 writes instead.
    """
    if isinstance(pid, str):
        return None
    if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] not in ("storage", b"storage"):
        raise pickle.UnpicklingError("it has a persistent id that is no storage")
    _, dtype, key, _, count = pid[:5]
    if type(count) is not int or count < 0 or not isinstance(key, str | int):
        raise pickle.UnpicklingError("it has a storage without a size")
    return (dtype, str(key), count) if isinstance(dtype, torch.dtype) else None
