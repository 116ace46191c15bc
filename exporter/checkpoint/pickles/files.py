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
from attn_export.exporter.checkpoint.pickles.arrays import MODULES, from_bytes
from attn_export.exporter.checkpoint.pickles.names import Called, Storage
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
        views = Views(size)
        if not is_archive:
            return self._before_archives(Bounded(stream, size), size, views, self._made(views))
        with zipfile.ZipFile(stream) as archive:
            return self._in_archive(archive, views)

    def _load(
        self, stream: Any, persistent: Callable[[Any], Any], views: Views, made: Mapping[str, Any] | None = None
    ) -> Any:
        made = self._made(views) if made is None else made
        return InertUnpickler(
            stream, persistent, known=self.known, called=self.called, names=self.names, made=made, views=views
        ).load()

    def _made(self, views: Views) -> Mapping[str, Any]:
        """What makes tensors of bytes in a pickle: of numpy's arrays, and of storages that ``pickle.dump`` wrote."""

        def array(content: Any, kind: Any, shape: Any, order: Any = "C", *_: Any) -> Any:
            return from_bytes(content, kind, shape, order, views)

        def storage(content: Any) -> Any:
            if not isinstance(content, bytes):
                raise pickle.UnpicklingError("it has a storage without bytes")
            return self._before_archives(Bounded(io.BytesIO(content), len(content)), len(content), views, {})

        return {
            "torch.storage._load_from_bytes": Called(storage),
            **{f"{module}.numeric._frombuffer": Called(array) for module in MODULES},
        }

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
        return self._load(Bounded(io.BytesIO(content), len(content)), storage, views)

    def _before_archives(self, stream: Bounded, size: int, views: Views, made: Mapping[str, Any]) -> Any:
        """Pickles one after the other: two numbers, facts of the machine, the object, its storages' keys; their bytes.

        The object stands before the bytes of its storages: these are filled in afterwards. Anything else than the first
        number is what ``pickle.dump`` wrote.
        """
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

        def load() -> Any:
            return self._load(stream, storage, views, made)

        if not isinstance(first := load(), int):
            return first
        if first != MAGIC:
            raise pickle.UnpicklingError("Invalid magic number; corrupt file?")
        if load() != PROTOCOL:
            raise pickle.UnpicklingError("Invalid protocol version")
        load()
        found = load()
        for key in load():
            (count,) = struct.unpack("<q", stream.read(8))
            content = contents[str(key)]
            if count < 0 or content.numel() % max(count, 1) or bool(count) != bool(content.numel()):
                raise ValueError(f"its storage {key} has another size")
            content.copy_(tensor_of(stream.read(content.numel())))
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
