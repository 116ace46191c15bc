"""The targets that this machine offers to a sweep."""

from attn_export.exporter.artifacts import CPU
from attn_export.exporter.engine.backend import load
from attn_export.exporter.engine.targets import JETSON
from attn_export.exporter.system import gpus


def unoffered_here(runtime: str, target: str) -> str:
    """The reason why a runtime can't serve a target here; empty where it can, if only to build.

    Raises:
        RuntimeUnavailableError: TensorRT-RTX isn't installed, and is needed.
    """
    own = sorted({gpu.architecture for gpu in gpus.found()})
    if target == CPU or target in own or target in _built_here(runtime):
        return ""
    return f"{runtime} needs a GPU for {target}, and this machine has {', '.join(own) or 'none'}"


def _built_here(runtime: str) -> tuple[str, ...]:
    """Architectures without a GPU here: TensorRT-RTX builds engines for them, and a Jetson gets a bundle."""
    if runtime == "tensorrt-rtx":
        return load(runtime).named_gpus
    return tuple(JETSON) if runtime == "tensorrt" else ()
