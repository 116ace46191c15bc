"""The targets that this machine offers to a sweep."""

from collections.abc import Iterable

from attn_export.exporter.artifacts import CPU
from attn_export.exporter.engine.backend import load
from attn_export.exporter.engine.targets import JETSON
from attn_export.exporter.errors import RuntimeUnavailableError
from attn_export.exporter.records.sweep import Cell
from attn_export.exporter.system import gpus


def refuse_unoffered_here(cells: Iterable[Cell]) -> None:
    """Refuse cells for which this machine has neither the GPU nor a way to build.

    Raises:
        RuntimeUnavailableError: there is one; or TensorRT-RTX isn't installed, and is needed.
    """
    pairs = dict.fromkeys((cell.runtime, cell.target) for cell in cells)
    own = {gpu.architecture for gpu in gpus.found()}
    for runtime, target in pairs:
        if not (target == CPU or target in own or target in _built_here(runtime)):
            raise RuntimeUnavailableError(
                f"nobody offers {target} for {runtime}: this machine has {', '.join(sorted(own)) or 'no GPU'}",
                runtime=runtime,
                hint="Name a Ray cluster with --ray whose nodes have such GPUs; tensorrt-rtx builds, without timing, "
                "for GPUs that aren't here.",
            )


def _built_here(runtime: str) -> tuple[str, ...]:
    """Architectures without a GPU here: TensorRT-RTX builds engines for them, and a Jetson gets a bundle."""
    if runtime == "tensorrt-rtx":
        return load(runtime).named_gpus
    return tuple(JETSON) if runtime == "tensorrt" else ()
