"""ONNX Runtime's profile by attention block."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from attn_export.exporter.artifacts import OnnxFile
from attn_export.exporter.graph.attention.members import members_of, owners_of
from attn_export.exporter.graph.read import named, parsed
from attn_export.exporter.latency.attention_cost.attribution import UNKNOWN, attributed
from attn_export.exporter.latency.attention_cost.naming import Names
from attn_export.exporter.latency.attention_cost.overhead import overhead_ms
from attn_export.exporter.latency.attention_cost.profile import profile
from attn_export.exporter.records.arrays import Arrays
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.system.files import unwritable


@dataclass(frozen=True)
class ProfiledBlocks:
    """The profile of one inference.

    Attributes:
        total_ms: of all kernels, without the profiler's overhead.
        blocks_ms: of each block's kernels.
        kernels: the number of kernels of each block.
        unattributed_ms: of the unattributed kernels.
    """

    total_ms: float
    blocks_ms: tuple[float, ...]
    kernels: tuple[int, ...]
    unattributed_ms: float
    unattributed: int


def profiled_blocks(file: OnnxFile, arrays: Arrays, settings: Settings, inferences: int) -> ProfiledBlocks:
    """Profile the file in ONNX Runtime on the CPU.

    The file's signature has the shapes of the arrays, one batch (N, ...) of each input.

    Raises:
        RuntimeUnavailableError: ONNX Runtime can't run it, or the format of its profile is unknown.
        OutputError: the profile can't be written.
        UnreadableGraphError: the file can't be read.
    """
    model = named(parsed(file).copy())
    owner = owners_of(members_of(model, file.blocks))
    names = Names(model)
    try:
        with TemporaryDirectory() as folder:
            kernels = profile(model, file.path, file.signature, settings, arrays, inferences, Path(folder))
            idle = overhead_ms(settings, Path(folder))
    except OSError as error:
        raise unwritable(Path(gettempdir()), error) from error
    times = [max(0.0, kernel.ms - idle) for kernel in kernels]
    owners = attributed(kernels, names, owner)
    places = range(len(file.blocks))

    def time_of(block: int) -> float:
        return sum(ms for ms, owner in zip(times, owners, strict=True) if owner == block)

    return ProfiledBlocks(
        total_ms=sum(times),
        blocks_ms=tuple(time_of(index) for index in places),
        kernels=tuple(owners.count(index) for index in places),
        unattributed_ms=time_of(UNKNOWN),
        unattributed=owners.count(UNKNOWN),
    )
