"""The TensorRT variants: `tensorrt` (10.3 and later, needs the GPU) and `tensorrt_rtx` (builds anywhere)."""

import importlib
from dataclasses import dataclass
from typing import Any

from attn_export.exporter.errors import RuntimeUnavailableError, UsageError, first_line
from attn_export.exporter.system.install import RTX, TENSORRT, TENSORRT_ON_JETSON

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
INSTALL = {"tensorrt": TENSORRT, "tensorrt-rtx": RTX}
ON_JETSON = f"on a Jetson it comes with JetPack: {TENSORRT_ON_JETSON}"
AUTO = "auto"


@dataclass(frozen=True)
class Backend:
    """An imported TensorRT variant. ``name``: "tensorrt" or "tensorrt-rtx"."""

    name: str
    trt: Any

    @property
    def version(self) -> str:
        """Such as 1.7.1.116."""
        return str(self.trt.__version__)

    @property
    def named_gpus(self) -> tuple[str, ...]:
        """The architectures that can be built for without such a GPU, as "sm86"; empty for classic TensorRT."""
        capabilities = getattr(self.trt, "ComputeCapability", None)
        names = capabilities.__members__ if capabilities is not None else ()
        return tuple(name.lower() for name in names if name.startswith("SM"))

    @property
    def is_rtx(self) -> bool:
        """Whether the device compiles the engine's kernels when it is loaded."""
        return bool(self.named_gpus)

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def load(name: str) -> Backend:
    """Import a backend.

    Raises:
        RuntimeUnavailableError: it isn't installed or can't be imported; the hint has the command.
    """
    try:
        return Backend(name, importlib.import_module(MODULES[name]))
    except Exception as error:  # missing libraries and old drivers raise various types
        missing = isinstance(error, ModuleNotFoundError) and error.name == MODULES[name]
        raise RuntimeUnavailableError(
            f"{name} is not installed" if missing else f"{name} can't be imported: {first_line(error)}",
            hint=f"{INSTALL[name]}" + (f" ({ON_JETSON})." if name == "tensorrt" else "."),
        ) from error


def choose(name: str, *, named_gpus: bool, has_gpu: bool) -> tuple[Backend, str]:
    """The requested backend, or the best available one, and the reason for the choice.

    Raises:
        UsageError: the backend is unknown.
        RuntimeUnavailableError: it isn't installed; with "auto", none is.
    """
    if name in MODULES:
        return load(name), "as requested"
    if name != AUTO:
        raise UsageError(f"--backend {name}: unknown backend", hint=f"Known are auto, {', '.join(MODULES)}.")
    if named_gpus or not has_gpu:
        reason = "it builds for GPUs by name" if named_gpus else "it builds without a GPU"
        preferred = [("tensorrt-rtx", reason)]
    else:
        preferred = [("tensorrt", "it is tuned on this machine's GPU"), ("tensorrt-rtx", "it is the one installed")]
    refusals: list[str] = []
    for candidate, why in preferred:
        try:
            return load(candidate), ", and ".join([why, *refusals])
        except RuntimeUnavailableError as error:
            refusals.append(error.message)
    commands = "; ".join(f"{backend}: {command}" for backend, command in INSTALL.items())
    raise RuntimeUnavailableError(
        f"no engine can be built: {', and '.join(refusals)}" + ("" if has_gpu else ", and this machine has no GPU"),
        hint=f"{commands} ({ON_JETSON}).",
    )
