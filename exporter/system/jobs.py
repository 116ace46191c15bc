"""The jobs that are possible on this machine, and the reasons."""

from collections.abc import Mapping
from dataclasses import dataclass

from attn_export.exporter.system.gpus import GpuSurvey
from attn_export.exporter.system.jetson import Jetson
from attn_export.exporter.system.libraries import Library

FOR_EXPORT = ("torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime")
CUDA_PROVIDER = "CUDAExecutionProvider"

Libraries = Mapping[str, Library]


@dataclass(frozen=True)
class Job:
    """One use of attn-export.

    Attributes:
        name: in the table of doctor.
        possible: whether everything that it needs is here.
        reason: what works, or what is missing.
    """

    name: str
    possible: bool
    reason: str


def jobs(libraries: Libraries, gpus: GpuSurvey, jetson: Jetson | None) -> tuple[Job, ...]:
    """All jobs, in the order of a workflow."""
    return (
        export_to_onnx(libraries),
        torch_on_gpu(libraries["torch"], gpus),
        onnxruntime_on_gpu(libraries["onnxruntime"], gpus),
        build_for_rtx(libraries["tensorrt-rtx"]),
        build_for_this_gpu(libraries["tensorrt"], gpus, jetson),
        run_engines(libraries["tensorrt-rtx"], libraries["tensorrt"], gpus, jetson),
    )


def export_to_onnx(libraries: Libraries) -> Job:
    """Whether the libraries of an export work."""
    broken = [library for name in FOR_EXPORT if not (library := libraries[name]).works]
    reason = "; ".join(problem(library) for library in broken) or f"{', '.join(FOR_EXPORT)} work"
    return Job("export to ONNX", not broken, reason)


def torch_on_gpu(torch: Library, gpus: GpuSurvey) -> Job:
    """``--device cuda`` for PyTorch."""
    name = "time PyTorch on the GPU"
    if not torch.works:
        return Job(name, False, problem(torch))
    if not torch.facts.get("cuda"):
        return Job(name, False, "this torch was built without CUDA")
    if not torch.facts.get("usable"):
        return Job(
            name, False, no_gpu(gpus, None) or "torch finds no usable GPU: the driver may be older than it needs"
        )
    return Job(name, True, f"torch has CUDA {torch.facts['cuda']} and finds a GPU")


def onnxruntime_on_gpu(onnxruntime: Library, gpus: GpuSurvey) -> Job:
    """``--device cuda`` for ONNX Runtime."""
    name = "time ONNX Runtime on the GPU"
    if not onnxruntime.works:
        return Job(name, False, problem(onnxruntime))
    if CUDA_PROVIDER not in onnxruntime.facts.get("providers", ()):
        return Job(name, False, f"this onnxruntime was built without {CUDA_PROVIDER}")
    if trouble := no_gpu(gpus, None):
        return Job(name, False, trouble)
    return Job(name, True, f"{CUDA_PROVIDER} and a GPU are here; whether CUDA's libraries are shows when it runs")


def build_for_rtx(rtx: Library) -> Job:
    """With TensorRT for RTX, which needs no GPU to build."""
    name = "build engines for RTX GPUs"
    if not rtx.works:
        return Job(name, False, problem(rtx))
    targets = ", ".join(rtx.facts.get("architectures", ()))
    return Job(name, True, f"tensorrt-rtx {rtx.version} needs no GPU{f'; for {targets}' if targets else ''}")


def build_for_this_gpu(classic: Library, gpus: GpuSurvey, jetson: Jetson | None) -> Job:
    """With classic TensorRT, which builds for the GPU of this machine."""
    name = "build engines for this GPU (classic)"
    reasons = [reason for reason in (no_gpu(gpus, jetson), "" if classic.works else problem(classic)) if reason]
    return Job(name, not reasons, "; ".join(reasons) or f"tensorrt {classic.version} and {gpu_names(gpus, jetson)}")


def run_engines(rtx: Library, classic: Library, gpus: GpuSurvey, jetson: Jetson | None) -> Job:
    """Engines of either TensorRT."""
    name = "run engines here"
    if trouble := no_gpu(gpus, jetson):
        return Job(name, False, trouble)
    if not rtx.works and not classic.works:
        return Job(name, False, f"{problem(rtx)}; {problem(classic)}")
    served, reasons = [], []
    if classic.works:
        served.append(f"tensorrt {classic.version}")
    if rtx.works:
        targets = rtx.facts.get("architectures", ())
        own = {gpu.architecture for gpu in gpus.gpus}
        if jetson or (own and targets and not own & set(targets)):
            reasons.append(f"tensorrt-rtx has nothing for {', '.join(sorted(own)) or 'a Jetson'}")
        else:
            served.append(f"tensorrt-rtx {rtx.version}")
    if not served:
        return Job(name, False, f"{'; '.join(reasons)}; {problem(classic)}")
    return Job(name, True, "; ".join([f"{' and '.join(served)} on {gpu_names(gpus, jetson)}", *reasons]))


def no_gpu(gpus: GpuSurvey, jetson: Jetson | None) -> str:
    """The reason why there is no GPU, empty where there is one."""
    if gpus.gpus or jetson:
        return ""
    return f"no GPU: {gpus.trouble}" if gpus.trouble else "no GPU"


def gpu_names(gpus: GpuSurvey, jetson: Jetson | None) -> str:
    """The names, each once."""
    return ", ".join(dict.fromkeys(gpu.name for gpu in gpus.gpus)) or (jetson.model if jetson else "")


def problem(library: Library) -> str:
    """``torch is not installed``."""
    if not library.installed:
        return f"{library.wanted.name} is not installed"
    if library.trouble.startswith("can't"):
        return f"{library.wanted.name} {library.trouble}"
    return f"{library.wanted.name}: {library.trouble}"
