"""The missing parts of this machine's setup, with the commands that install them."""

from dataclasses import dataclass

from attn_export.exporter.system import install
from attn_export.exporter.system.gpus import GpuSurvey
from attn_export.exporter.system.jetson import Jetson
from attn_export.exporter.system.jobs import CUDA_PROVIDER, FOR_EXPORT, Libraries
from attn_export.exporter.system.libraries import Library


@dataclass(frozen=True)
class Missing:
    """A part that is missing or doesn't work.

    Attributes:
        name: of the part.
        how: an explanation of the command; may be empty.
        command: installs it; None where that depends on the system.
    """

    name: str
    gives: str
    how: str
    command: str | None


def missing(libraries: Libraries, gpus: GpuSurvey, jetson: Jetson | None) -> tuple[Missing, ...]:
    """All missing parts, each once."""
    found = [
        Missing(name, libraries[name].wanted.gives, again(libraries[name]), f"pip install --force-reinstall {name}")
        for name in FOR_EXPORT
        if not libraries[name].works
    ]
    torch, onnxruntime = libraries["torch"], libraries["onnxruntime"]
    rtx, classic = libraries["tensorrt-rtx"], libraries["tensorrt"]
    if torch.works and not torch.facts.get("cuda"):
        how = "NVIDIA's own wheel for this JetPack" if jetson else "on Windows as PyTorch's installation page says"
        command = None if jetson else install.CUDA_TORCH
        found.append(Missing("torch with CUDA", "PyTorch's latencies on a GPU", how, command))
    if onnxruntime.works and CUDA_PROVIDER not in onnxruntime.facts.get("providers", ()):
        how = "both bring the same module, so one has to go"
        gives = "ONNX Runtime's latencies on a GPU"
        found.append(Missing("onnxruntime with CUDA", gives, how, install.ONNXRUNTIME_GPU))
    if not rtx.works and not jetson:  # it has no build for a Jetson
        found.append(Missing("tensorrt-rtx", rtx.wanted.gives, again(rtx), install.RTX))
    if not classic.works:
        how = "it comes with JetPack; a virtual environment needs --system-site-packages" if jetson else again(classic)
        command = install.TENSORRT_ON_JETSON if jetson else install.TENSORRT
        found.append(Missing("tensorrt", classic.wanted.gives, how, command))
    if not gpus.gpus and not jetson:
        gives = "latencies on a GPU, engines for it, and running them"
        found.append(Missing("GPU with its driver", gives, gpus.trouble, None))
    return tuple(found)


def again(library: Library) -> str:
    """The trouble of a library that is installed; empty for one that isn't."""
    return library.trouble if library.installed else ""
