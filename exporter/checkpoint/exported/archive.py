"""Reads the archive of a program of torch.export: its document as JSON, its tensors as bytes.

Nothing is unpickled. PyTorch's loader unpickles the sample inputs, tensors of other classes and objects.
"""

import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO

import msgspec
import torch

from attn_export.exporter.checkpoint.exported.arguments import DTYPES, LAYOUTS
from attn_export.exporter.checkpoint.exported.operators import check_expressions
from attn_export.exporter.checkpoint.exported.schema import Document, PayloadConfig, TensorMeta
from attn_export.exporter.checkpoint.exported.unsafe import OTHER_VERSION, Unsafe, Unusable
from attn_export.exporter.checkpoint.inert import listed
from attn_export.exporter.checkpoint.pickles.files import names_in, part_of
from attn_export.exporter.checkpoint.tensors import Views, tensor_of

MAJOR = 8
# Parts of an archive that aren't read, or read above as what they are.
DATA = re.compile(
    r"models/[^/]+\.json|data/(weights|constants)/(weight|tensor)_\d+|data/(weights|constants)/[^/]+_config\.json"
    r"|data/sample_inputs/[^/]+\.pt|archive_format|archive_version|byteorder|version|\.data/\w+|\.format_version"
    r"|\.storage_alignment|extra/.*"
)


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


def read_archive(stream: IO[bytes], size: int) -> Archive:
    """Read the one program in an archive.

    Raises:
        Unsafe: it holds something else than data.
        Unusable: it is of another version of the format, which PyTorch doesn't load either.
        Exception: of many types, it is damaged.
    """
    with zipfile.ZipFile(stream) as archive:
        records, views = _records(archive, size), Views(size)
        names = [name.removeprefix("models/").removesuffix(".json") for name in records if name.startswith("models/")]
        if len(names) != 1:
            raise Unsafe(f"it holds {len(names)} programs, expected is one")
        if "byteorder" in records and part_of(archive, records["byteorder"].filename) != b"little":
            raise Unsafe("its numbers are big-endian")
        _check_samples(archive, records)
        document = _document(part_of(archive, records[f"models/{names[0]}.json"].filename))
        weights = list(_tensors(archive, records, f"data/weights/{names[0]}_weights_config.json", views))
        constants = list(_tensors(archive, records, f"data/constants/{names[0]}_constants_config.json", views))
    return Archive(
        document,
        {name: tensor for name, tensor, _ in (*weights, *constants)},
        frozenset(name for name, _, is_parameter in weights if is_parameter),
    )


def _records(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The parts by their names, all stored as they are and no larger than the file."""
    if any("/" not in entry.filename for entry in archive.infolist()):
        raise Unsafe("PyTorch before 2.8 wrote it, with pickled weights")
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
    """The sample inputs are a pickle. They aren't used; that they name no code is for other readers."""
    for name, entry in records.items():
        if name.startswith("data/sample_inputs/"):
            content = part_of(archive, entry.filename)
            if foreign := names_in(io.BytesIO(content), len(content)):
                raise Unsafe(f"its sample inputs want {listed(foreign)}")


def _document(text: bytes) -> Document:
    check_expressions(msgspec.json.decode(text))
    document = msgspec.json.decode(text, type=Document)
    if document.schema_version.major != MAJOR:
        raise Unusable(
            f"is of version {document.schema_version.major} of the format, and {MAJOR} is read", OTHER_VERSION
        )
    return document


def _tensors(
    archive: zipfile.ZipFile, records: Mapping[str, zipfile.ZipInfo], config: str, views: Views
) -> Iterator[tuple[str, torch.Tensor, bool]]:
    """Name, tensor, and whether it is a parameter. Tensors that share a record share their memory."""
    if config not in records:
        raise Unsafe(f"it has no {config}, so its tensors are pickled")
    bytes_of: dict[str, torch.Tensor] = {}
    for name, payload in msgspec.json.decode(
        part_of(archive, records[config].filename), type=PayloadConfig
    ).config.items():
        meta, place = payload.tensor_meta, f"{config.rpartition('/')[0]}/{payload.path_name}"
        if payload.use_pickle or meta is None or not payload.path_name.startswith(("weight_", "tensor_")):
            raise Unsafe(f"its {name} is a pickled object")
        if place not in bytes_of:
            bytes_of[place] = tensor_of(part_of(archive, records[place].filename))
        yield name, _view(views, bytes_of[place], meta, name), payload.is_param


def _view(views: Views, content: torch.Tensor, meta: TensorMeta, name: str) -> torch.Tensor:
    """A tensor in these bytes."""
    if meta.dtype not in DTYPES or meta.layout not in LAYOUTS:
        raise Unsafe(f"its {name} is of a type or layout that isn't read (type {meta.dtype}, layout {meta.layout})")
    sizes, strides = [size.number() for size in meta.sizes], [size.number() for size in meta.strides]
    return views.view(content, DTYPES[meta.dtype], sizes, strides, meta.storage_offset.number())
