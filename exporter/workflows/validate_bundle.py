"""`attn-export validate BUNDLE ARTIFACT`: an engine or ONNX file against the golden outputs of a bundle."""

from collections.abc import Callable, Mapping
from pathlib import Path

from attn_export.exporter.artifacts import ONNX_ENDING, Shape
from attn_export.exporter.bundle.read import Bundle, read_bundle
from attn_export.exporter.errors import DisagreementError, InputError, RuntimeUnavailableError
from attn_export.exporter.graph.facts import dims
from attn_export.exporter.records.artifact import Tensor
from attn_export.exporter.records.verdict import Verdict
from attn_export.exporter.runtimes.base import Runtime
from attn_export.exporter.system import gpus
from attn_export.exporter.system.progress import NullProgress, Progress
from attn_export.exporter.workflows.golden import disagreement, open_engine, run_golden
from attn_export.exporter.workflows.settings import cpu_settings

Takes = Callable[[Shape], bool]


def validate_with_bundle(
    bundle: Bundle | Path | str,
    artifact: Path | str,
    *,
    trust: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> tuple[Bundle, Verdict, DisagreementError | None]:
    """Run the golden inputs of a bundle through an artifact and compare the outputs.

    Args:
        bundle: from `read_bundle`, or its path.
        artifact: an engine, or an ONNX file whose name ends in ``.onnx``.
        trust: load an engine that has no record, or was changed after it was built.
        threads: of ONNX Runtime; default: all usable CPUs.

    Returns:
        The bundle, the verdict, and the error of a verdict that doesn't agree.

    Raises:
        UnreadableBundleError: the bundle is missing, incomplete or damaged.
        UnreadableEngineError, UntrustedEngineError: the engine is damaged, was built for another GPU, or isn't trusted.
        UnreadableGraphError: the ONNX file is damaged.
        InputError: the artifact has another input, or doesn't take the golden inputs.
        RuntimeUnavailableError: there is no GPU, or no runtime for the artifact.
    """
    artifact, progress = Path(artifact), progress or NullProgress()
    if not isinstance(bundle, Bundle):
        with progress.stage("Reading the bundle"):
            bundle = read_bundle(bundle)
    if artifact.suffix.lower() == ONNX_ENDING:
        from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime

        check_onnx(bundle, artifact)
        runtime: Runtime = OnnxRuntime(artifact, bundle.signature, cpu_settings(threads))
    else:
        check_engine(bundle, artifact, trust=trust)
        runtime = open_engine(artifact, bundle.signature, cpu_settings(threads), trust)
    verdict = run_golden(bundle.golden, runtime, "Running the golden inputs", progress)
    return bundle, verdict, disagreement(artifact, verdict)


def check_engine(bundle: Bundle, engine: Path, *, trust: bool) -> None:
    """Check, from its record, that an engine can be loaded here and takes the golden inputs."""
    from attn_export.exporter.engine.backend import load
    from attn_export.exporter.engine.sidecar import check_file, check_fits

    record = check_file(engine, trust=trust)
    if record is not None:
        check_shapes(bundle, engine, {name: shapes.covers for name, shapes in record.profile.items()})
    here = gpus.found()
    if not here:
        raise RuntimeUnavailableError(
            f"{engine} can't be run: there is no GPU here, or no driver for it",
            hint="Run this command on the device. An ONNX file can be validated without a GPU.",
        )
    if record is not None:
        check_fits(record, engine, load(record.backend.name), here)


def check_onnx(bundle: Bundle, path: Path) -> None:
    """Check that an ONNX file takes the golden inputs.

    Raises:
        UnreadableGraphError: it is missing, damaged or invalid.
        InputError: it has other inputs or shapes.
    """
    from attn_export.exporter.graph.read import read

    inputs = [value for value in read(path).graph.inputs if value.const_value is None]
    check_shapes(bundle, path, {str(value.name): Tensor(str(value.name), dims(value), "").takes for value in inputs})


def check_shapes(bundle: Bundle, artifact: Path, inputs: Mapping[str, Takes]) -> None:
    """Compare the inputs of an artifact with the golden inputs.

    ``inputs`` says of each name whether it takes a shape.

    Raises:
        InputError: name or shapes differ.
    """
    golden = bundle.golden
    hint = f"Was it made from the same network as {bundle.path.name}?"
    if set(inputs) != set(golden.inputs):
        names, own = ", ".join(inputs) or "no input", ", ".join(golden.inputs)
        verb = "inputs are" if len(golden.inputs) > 1 else "input is"
        raise InputError(f"{artifact} takes {names}, and the bundle's {verb} {own}", hint=hint)
    for name, shape in ((name, s) for shapes in golden.shapes for name, s in zip(golden.inputs, shapes, strict=True)):
        if not inputs[name](shape):
            raise InputError(f"{artifact} doesn't take the bundle's images of {'×'.join(map(str, shape))}", hint=hint)
