"""The manifest of a device folder, ``manifest.json``, as a type."""

from pathlib import Path

from msgspec import Struct

from attn_export.exporter.artifacts import Axis, Normalization, Postprocessing, Preprocessing, Shape
from attn_export.exporter.errors import UnreadablePackageError
from attn_export.exporter.records.document import SCHEMA_VERSION, DocumentError, decode
from attn_export.exporter.records.environment import Environment
from attn_export.exporter.records.latency import Natural
from attn_export.exporter.system.files import is_file_name, read_whole

MANIFEST = "manifest.json"
MOST_BYTES = 2**26
HINT = "Copy the folder again, or write it again: attn-export package model.onnx --device DIR"


class PackagedFile(Struct, frozen=True):
    """One file of a device folder. ``licenses``: SPDX expressions; empty if nothing says them."""

    bytes: Natural
    sha256: str
    licenses: tuple[str, ...] = ()


class MeasuredLatency(Struct, frozen=True):
    """A median latency with its 99 % interval, in milliseconds."""

    artifact: str
    runtime: str
    provenance: str
    device: str
    batch: int
    median_ms: float
    interval_ms: tuple[float, float]


class DeviceInput(Struct, frozen=True):
    """An input: numpy's name of its type, the shape of a first inference, and the axes that may differ from it."""

    name: str
    dtype: str
    shape: Shape
    dynamic_axes: tuple[Axis, ...] = ()


class ShortVerdict(Struct, frozen=True):
    """The verdict in an ONNX file's metadata."""

    agrees: bool
    runtime: str
    worst_tensor: str
    ratio: float


class DeviceManifest(Struct, frozen=True, kw_only=True):
    """The content of ``manifest.json``.

    Attributes:
        engines: names of the engines; each has its sidecar beside it.
        inputs: in the network's order.
        outputs: names, in the network's order.
        source_sha256: of the checkpoint; empty if unknown.
        class_names, normalization, preprocessing, postprocessing: None if unknown or none.
        verdict: on the ONNX file; None if unknown.
        made_with: machine and packages that wrote the folder.

    Raises:
        ValueError: a name leads out of the folder, or a file isn't listed.
    """

    created: str
    name: str
    onnx: str
    engines: tuple[str, ...]
    bundles: tuple[str, ...]
    inputs: tuple[DeviceInput, ...]
    outputs: tuple[str, ...]
    source_sha256: str
    class_names: tuple[str, ...] | None
    normalization: Normalization | None
    preprocessing: Preprocessing | None
    postprocessing: Postprocessing | None
    verdict: ShortVerdict | None
    latencies: tuple[MeasuredLatency, ...]
    made_with: Environment
    files: dict[str, PackagedFile]
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if foreign := [name for name in self.files if not is_file_name(name)]:
            raise ValueError(f"files: {foreign[0]!r} is not a plain file name")
        named = (self.onnx, *self.engines, *(f"{engine}.json" for engine in self.engines), *self.bundles)
        if missing := [name for name in named if name not in self.files]:
            raise ValueError(f"files: {missing[0]} isn't listed")


def read_manifest(folder: Path) -> DeviceManifest:
    """The manifest of a device folder. Raises UnreadablePackageError: it is missing or damaged."""
    path = folder / MANIFEST
    try:
        return decode(read_whole(path, MOST_BYTES), DeviceManifest)
    except OSError as error:
        raise UnreadablePackageError(
            f"{folder} is no device folder: {MANIFEST} can't be read ({error.strerror})", hint=HINT
        ) from error
    except DocumentError as error:
        raise UnreadablePackageError(f"{path} is no manifest of a device folder: {error}", hint=HINT) from error
