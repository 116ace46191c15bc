"""The README of a bundle, with the commands for the device."""

import shlex
from pathlib import Path
from string import Template

from attn_export.exporter.bundle.golden import GoldenGroup
from attn_export.exporter.bundle.manifest import Manifest

TEMPLATE = Path(__file__).with_name("README.md.template")
TRTEXEC = "/usr/src/tensorrt/bin/trtexec"
MAX_OPSET = 20  # the latest that TensorRT 10.3 is known to parse


def readme(manifest: Manifest, bundle: str) -> str:
    """The README."""
    golden, engine = manifest.golden, f"{manifest.name}.engine"
    batches = sorted({len(batch) for group in golden.groups for batch in group.batches})
    late = (
        f"\n\nThe file has ONNX opset {manifest.opset}; TensorRT 10.3 is only known to parse opsets up to {MAX_OPSET}."
    )
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        name=manifest.name,
        device=manifest.device or manifest.architecture,
        architecture=manifest.architecture,
        images=sum(len(group.kinds) for group in golden.groups),
        sizes=" and ".join(_sizes(group) for group in golden.groups),
        batches=", ".join(map(str, batches)),
        reference=golden.reference,
        baseline=golden.baseline,
        tensorrt=manifest.tensorrt,
        bundle=shlex.quote(bundle),
        bundle_literal=repr(bundle),
        folder=shlex.quote(manifest.name),
        engine=shlex.quote(engine),
        trtexec=" \\\n  ".join(map(shlex.quote, trtexec(manifest, engine))),
        opset_note=late if manifest.opset > MAX_OPSET else "",
        onnx=manifest.onnx,
        precision=manifest.precision or "types unchanged",
    )


def trtexec(manifest: Manifest, engine: str) -> list[str]:
    """The trtexec command of TensorRT 10 for the same engine as `build_bundle`. It was never run.

    trtexec takes shapes only for inputs with a dynamic axis.
    """
    inputs, options = manifest.graph.inputs, manifest.options
    dynamic = [name for name, dims in inputs.items() if not all(isinstance(dim, int) for dim in dims)]
    words = [TRTEXEC, f"--onnx={manifest.onnx}", f"--saveEngine={engine}", "--stronglyTyped"]
    for bound in ("min", "opt", "max") if dynamic else ():
        shapes = [f"{_quoted(n)}:{'x'.join(map(str, getattr(manifest.profile[n], bound)))}" for n in dynamic]
        words.append(f"--{bound}Shapes={','.join(shapes)}")
    words += [] if options.tf32 else ["--noTF32"]
    words += ["--maxAuxStreams=0", "--profilingVerbosity=detailed"]
    words += [] if options.workspace_mib is None else [f"--memPoolSize=workspace:{options.workspace_mib}M"]
    words += ["--versionCompatible"] if options.version_compatible else []
    words += ["--hardwareCompatibilityLevel=ampere+"] if options.hardware_compatible else []
    return [*words, "--skipInference"]


def _quoted(tensor: str) -> str:
    """A tensor's name for trtexec, which needs quotes around a colon or comma."""
    return f"'{tensor}'" if set(tensor) & {":", ","} else tensor


def _sizes(group: GoldenGroup) -> str:
    return ", ".join("×".join(map(str, shape[1:])) for shape in group.shapes.values())
