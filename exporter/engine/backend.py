"""Which TensorRT builds: `tensorrt` (10.3 and later, on a machine with the GPU) or `tensorrt_rtx` (anywhere)."""

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
    """One of the TensorRTs, imported.

    Attributes:
        name: "tensorrt" or "tensorrt-rtx".
        trt: the module.
    """

    name: str
    trt: Any

    @property
    def version(self) -> str:
        """Such as 1.7.1.116."""
        return str(self.trt.__version__)

    @property
    def named_gpus(self) -> tuple[str, ...]:
        """The architectures that engines can be built for without such a GPU: "sm86". None in the classic one."""
        capabilities = getattr(self.trt, "ComputeCapability", None)
        names = capabilities.__members__ if capabilities is not None else ()
        return tuple(name.lower() for name in names if name.startswith("SM"))

    @property
    def is_rtx(self) -> bool:
        """Whether engines are finished by a compiler on the device when they are loaded."""
        return bool(self.named_gpus)

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def load(name: str) -> Backend:
    """Import one.

    Raises:
        RuntimeUnavailableError: it isn't installed, or can't be imported; the hint has the command.
    """
    try:
        return Backend(name, importlib.import_module(MODULES[name]))
    except Exception as error:  # libraries that are missing or too old for the driver raise all kinds
        missing = isinstance(error, ModuleNotFoundError) and error.name == MODULES[name]
        raise RuntimeUnavailableError(
            f"{name} is not installed" if missing else f"{name} can't be imported: {first_line(error)}",
            runtime=name,
            hint=f"{INSTALL[name]}" + (f" ({ON_JETSON})." if name == "tensorrt" else "."),
        ) from error


def choose(asked: str, *, named_gpus: bool, has_gpu: bool) -> tuple[Backend, str]:
    """The backend that was asked for, or the one that suits.

    Args:
        asked: "auto", "tensorrt" or "tensorrt-rtx".
        named_gpus: whether the engine is for architectures that were named.
        has_gpu: whether this machine has a GPU to build on.

    Returns:
        The backend, and why it was chosen.

    Raises:
        UsageError: there is no such backend.
        RuntimeUnavailableError: it isn't installed; with "auto", none is.
    """
    if asked in MODULES:
        return load(asked), "as asked"
    if asked != AUTO:
        raise UsageError(f"--backend {asked}: there is no such backend", hint=f"Known are auto, {', '.join(MODULES)}.")
    if named_gpus or not has_gpu:
        reason = "it builds for GPUs by name" if named_gpus else "it builds without a GPU"
        preferred = [("tensorrt-rtx", reason)]
    else:
        preferred = [
            ("tensorrt", "it is tuned on this machine's GPU"),
            ("tensorrt-rtx", "it is the one that is there"),
        ]
    refusals: list[str] = []
    for name, why in preferred:
        try:
            return load(name), ", and ".join([why, *refusals])
        except RuntimeUnavailableError as error:
            refusals.append(error.message)
    commands = "; ".join(f"{name}: {command}" for name, command in INSTALL.items())
    raise RuntimeUnavailableError(
        f"no engine can be built: {', and '.join(refusals)}" + ("" if has_gpu else ", and there is no GPU here"),
        runtime=AUTO,
        hint=f"{commands} ({ON_JETSON}).",
    )
