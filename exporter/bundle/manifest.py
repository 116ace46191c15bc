"""The manifest of a deployment bundle, ``bundle.json``, as a type."""

from msgspec import Struct

from attn_export.exporter.artifacts import Precision
from attn_export.exporter.bundle.golden import GoldenDescription
from attn_export.exporter.engine.graph import GraphFacts
from attn_export.exporter.records.document import SCHEMA_VERSION
from attn_export.exporter.records.engine import BuildOptions, Profile, Range
from attn_export.exporter.records.environment import Environment
from attn_export.exporter.records.latency import Natural
from attn_export.exporter.system.files import is_file_name

MANIFEST, README, GOLDEN = "bundle.json", "README.md", "golden.npz"


class Member(Struct, frozen=True):
    """Size and SHA-256 (hexadecimal) of a file in the bundle."""

    bytes: Natural
    sha256: str


class Manifest(Struct, frozen=True, kw_only=True):
    """The content of ``bundle.json``.

    Attributes:
        created: UTC, ISO 8601, to the second.
        name: stem of the bundle's and the engine's file names.
        architecture: GPU architecture of the engine, such as "sm87".
        device: product name of that GPU, None if unknown.
        tensorrt: the earliest TensorRT version that can build it.
        graph: facts about the ONNX file; ``path`` is its name within the bundle.
        profile: min, opt and max shapes of each input.
        made_with: machine and packages that wrote the bundle.
        files: size and checksum of every file except this one.

    Raises:
        ValueError: the values contradict each other, or name a file outside the bundle.
    """

    created: str
    name: str
    architecture: str
    device: str | None
    precision: Precision | None
    opset: int
    tensorrt: str
    graph: GraphFacts
    profile: Profile
    options: BuildOptions
    golden: GoldenDescription
    made_with: Environment
    files: dict[str, Member]
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if not is_file_name(self.name):
            raise ValueError(f"name: {self.name!r} is not a plain file name")
        required = {README, GOLDEN, self.onnx}
        if not is_onnx_name(self.onnx):
            raise ValueError(f"graph.path: {self.onnx!r} is not the name of an ONNX file")
        if not required <= self.files.keys() <= required | {f"{self.onnx}.data"}:
            raise ValueError(f"files: expected {', '.join(sorted(required))}, got {', '.join(sorted(self.files))}")
        if self.graph.weight_files or self.options.timing_cache is not None:
            raise ValueError("a bundle refers to no files outside it")
        if not all(block.gates and block.maps and block.nodes for block in self.graph.blocks):
            raise ValueError("graph.blocks: an attention block has gates, maps and nodes")
        if not self.golden.inputs.keys() <= self.profile.keys() or not all(map(_is_ordered, self.profile.values())):
            raise ValueError("profile: expected min <= opt <= max shapes, at least 1, of every input")

    @property
    def onnx(self) -> str:
        """Name of the ONNX file within the bundle."""
        return str(self.graph.path)


def is_onnx_name(name: str) -> bool:
    """Whether the ONNX file of a bundle can have this name."""
    return is_file_name(name) and name not in (MANIFEST, README, GOLDEN)


def _is_ordered(shapes: Range) -> bool:
    bounds = (shapes.min, shapes.opt, shapes.max)
    if not shapes.min or len({len(bound) for bound in bounds}) > 1:
        return False
    return min(shapes.min) >= 1 and all(map(shapes.covers, bounds))
