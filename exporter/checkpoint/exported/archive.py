"""Reads the archive of a program of torch.export: its document as JSON, its tensors as bytes.

Nothing is unpickled. PyTorch's loader unpickles the sample inputs, tensors of other classes and objects.
"""

import io
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from attn_export.exporter.checkpoint.exported.arguments import DTYPES, LAYOUTS
from attn_export.exporter.checkpoint.exported.operators import check_expressions
from attn_export.exporter.checkpoint.exported.schema import Document, Payload, PayloadConfig, TensorMeta
from attn_export.exporter.checkpoint.exported.unsafe import Unsafe
from attn_export.exporter.checkpoint.inert import listed, names_in

MAJOR = 8
# Parts of an archive that aren't read, or read above as what they are.
DATA = re.compile(
    r"models/[^/]+\.json|data/(weights|constants)/(weight|tensor)_\d+|data/(weights|constants)/[^/]+_config\.json"
    r"|data/sample_inputs/[^/]+\.pt|archive_format|archive_version|byteorder|version|\.data/\w+|\.format_version"
    r"|\.storage_alignment|extra/.*"
)
SMALL = 2**20


@dataclass(frozen=True)
class Archive:
    """What a program is made of.

    Attributes:
        document: its graph and signature.
        state: weights, buffers and constants by their names in the network; parameters among them.
        parameters: the names of those.
    """

    document: Document
    state: dict[str, torch.Tensor]
    parameters: frozenset[str]


def read_archive(path: Path) -> Archive:
    """Read the one program in an archive.

    Raises:
        Unsafe: it holds something else than data, or is of another version of the format.
        Exception: of many types, it is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        records = _records(archive, path.stat().st_size)
        names = [name.removeprefix("models/").removesuffix(".json") for name in records if name.startswith("models/")]
        if len(names) != 1:
            raise Unsafe(f"it holds {len(names)} programs, expected is one")
        if "byteorder" in records and archive.read(records["byteorder"]) != b"little":
            raise Unsafe("its numbers are big-endian")
        _check_samples(archive, records)
        document = _document(archive.read(records[f"models/{names[0]}.json"]))
        weights = _tensors(archive, records, f"data/weights/{names[0]}_weights_config.json")
        constants = _tensors(archive, records, f"data/constants/{names[0]}_constants_config.json")
    return Archive(
        document,
        {name: tensor for name, tensor, _ in (*weights, *constants)},
        frozenset(name for name, _, is_parameter in weights if is_parameter),
    )


def _records(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The parts by their names, all stored as they are and no larger than the file."""
    records = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}
    if len(records) < len(archive.infolist()):
        raise Unsafe("it holds a part twice")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in records.values()):
        raise Unsafe("its parts are compressed, which torch.export.save doesn't do")
    if sum(entry.file_size for entry in records.values()) > size:
        raise Unsafe("its parts overlap")
    if odd := [name for name in records if not DATA.fullmatch(name)]:
        raise Unsafe(f"it holds {listed(odd)}, which may be code or pickled objects")
    return records


def _check_samples(archive: zipfile.ZipFile, records: Mapping[str, zipfile.ZipInfo]) -> None:
    """The sample inputs are a pickle. They aren't read here; that they name no code is for other readers."""
    for name, entry in records.items():
        if name.startswith("data/sample_inputs/") and (foreign := names_in(io.BytesIO(archive.read(entry)))):
            raise Unsafe(f"its sample inputs want {listed(foreign)}")


def _document(text: bytes) -> Document:
    check_expressions(msgspec.json.decode(text))
    document = msgspec.json.decode(text, type=Document)
    if document.schema_version.major != MAJOR:
        raise Unsafe(f"it is of version {document.schema_version.major} of the format, and {MAJOR} is read")
    return document


def _tensors(
    archive: zipfile.ZipFile, records: Mapping[str, zipfile.ZipInfo], config: str
) -> list[tuple[str, torch.Tensor, bool]]:
    """Name, tensor, and whether it is a parameter. Tensors that share a record share their memory."""
    if config not in records:
        raise Unsafe(f"it has no {config}, so its tensors are pickled")
    payloads = msgspec.json.decode(archive.read(records[config]), type=PayloadConfig).config
    bytes_of: dict[str, torch.Tensor] = {}
    return list(_read(archive, records, payloads, config.rpartition("/")[0], bytes_of))


def _read(
    archive: zipfile.ZipFile,
    records: Mapping[str, zipfile.ZipInfo],
    payloads: Mapping[str, Payload],
    folder: str,
    bytes_of: dict[str, torch.Tensor],
) -> Iterator[tuple[str, torch.Tensor, bool]]:
    for name, payload in payloads.items():
        if (
            payload.use_pickle
            or payload.tensor_meta is None
            or not payload.path_name.startswith(("weight_", "tensor_"))
        ):
            raise Unsafe(f"its {name} is a pickled object")
        place = f"{folder}/{payload.path_name}"
        if place not in bytes_of:
            bytes_of[place] = _bytes(archive, records[place])
        yield name, _view(bytes_of[place], payload.tensor_meta, name), payload.is_param


def _bytes(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> torch.Tensor:
    content = bytearray(archive.read(entry))
    return torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)


def _view(content: torch.Tensor, meta: TensorMeta, name: str) -> torch.Tensor:
    """A tensor in these bytes; its sizes and strides are checked against them."""
    if meta.dtype not in DTYPES or meta.layout not in LAYOUTS:
        raise Unsafe(f"its {name} is of a type or layout that isn't read (type {meta.dtype}, layout {meta.layout})")
    dtype = DTYPES[meta.dtype]
    sizes, strides = [size.number() for size in meta.sizes], [size.number() for size in meta.strides]
    offset, count = meta.storage_offset.number(), math.prod(sizes)
    if min((0, offset, *sizes, *strides)) < 0 or len(sizes) != len(strides):
        raise ValueError(f"{name} has the sizes {sizes} and the strides {strides}")
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if count and (last + 1) * dtype.itemsize > content.numel():
        raise ValueError(f"{name} is larger than its bytes")
    if count * dtype.itemsize > max(content.numel(), SMALL):
        raise ValueError(f"{name} repeats its bytes {count * dtype.itemsize // content.numel()} times")
    if not count:
        return torch.empty(sizes, dtype=dtype)
    whole = content[: content.numel() // dtype.itemsize * dtype.itemsize].view(dtype)
    # Buffers that repeat their elements, as `expand` makes them, can't be restored in place.
    tensor = whole.as_strided(sizes, strides, offset)
    return tensor.contiguous() if 0 in strides else tensor
