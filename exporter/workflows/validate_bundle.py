"""One job: an engine, or an ONNX file, against the sample of a bundle, where there is no PyTorch."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from attn_export.exporter.artifacts import Signature
from attn_export.exporter.bundle.golden import GoldenVectors, signature_of
from attn_export.exporter.bundle.read import Bundle, read_bundle
from attn_export.exporter.errors import DisagreementError, InputError, RuntimeUnavailableError
from attn_export.exporter.graph.facts import dims
from attn_export.exporter.records.engine import Profile
from attn_export.exporter.records.verdict import SIZE, Verdict
from attn_export.exporter.runtimes.base import Runtime, Settings
from attn_export.exporter.system.machine import usable_cpus
from attn_export.exporter.system.progress import NullProgress, Progress, counted
from attn_export.exporter.validation.validate_golden import validate_golden

ONNX = ".onnx"
# Makes a runtime for an artifact: its path, what it takes and returns, settings, and whether its maker is trusted.
Opener = Callable[[Path, Signature, Settings, bool], Runtime]


def validate_with_bundle(
    bundle: Bundle | Path | str,
    artifact: Path | str,
    *,
    trust: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
    opener: Opener | None = None,
) -> tuple[Bundle, Verdict]:
    """Run the sample of a bundle through an artifact and judge what comes out.

    Args:
        bundle: that `read_bundle` gave, or its path.
        artifact: an engine, or an ONNX file, whose name ends in ``.onnx``.
        trust: load an engine that has no record, or was changed.
        threads: of ONNX Runtime; all usable CPUs if None.
        progress: receives stages and notes.
        opener: makes the runtime; TensorRT's for an engine and ONNX Runtime's for an ONNX file if None.

    Returns:
        The bundle and the verdict. It is the caller who fails, with `disagreement`.

    Raises:
        UnreadableBundleError: the bundle is missing, incomplete or damaged.
        UnreadableEngineError, UntrustedEngineError: the engine is, was built for something else, or isn't trusted.
        UnreadableGraphError: the ONNX file is.
        InputError: the artifact takes another input, or doesn't take the bundle's images.
        RuntimeUnavailableError: there is no GPU, or no runtime for the artifact.
    """
    artifact, progress = Path(artifact), progress or NullProgress()
    if not isinstance(bundle, Bundle):
        with progress.stage("Reading the bundle"):
            bundle = read_bundle(bundle)
    is_onnx = artifact.suffix.lower() == ONNX
    if is_onnx:
        check_onnx(bundle, artifact)
    else:
        check_engine(bundle, artifact, trust=trust, needs_gpu=opener is None)
    opener = opener or (open_onnx if is_onnx else open_engine)
    settings = Settings(threads=threads or usable_cpus())
    with progress.stage("Opening it"):
        runtime = opener(artifact, bundle.signature, settings, trust).open()
    batches = sum(len(group.batches) for group in bundle.sample.groups)
    with progress.stage("Running the bundle's images") as advance:
        try:
            return bundle, validate_golden(bundle.sample, runtime.run, runtime.provenance, counted(advance, batches))
        finally:
            runtime.close()


def judge_engine(engine: Path, sample: GoldenVectors, profile: Profile, progress: Progress) -> Verdict:
    """Run a new engine on this machine's GPU on the images of a sample.

    Args:
        engine: with its record beside it.
        sample: images that its profile takes.
        profile: of the engine.
        progress: receives stages and notes.

    Returns:
        The verdict, which agrees.

    Raises:
        DisagreementError: it computes something else.
        RuntimeUnavailableError, UnreadableEngineError: it doesn't run here.
    """
    runtime = open_engine(engine, signature_of(sample, profile), Settings(threads=1), trust=False)
    with progress.stage("Comparing the engine with its graph") as advance, runtime:
        batches = sum(len(group.batches) for group in sample.groups)
        verdict = validate_golden(sample, runtime.run, runtime.provenance, counted(advance, batches))
    if (error := disagreement(engine, verdict)) is not None:
        raise error
    return verdict


def check_engine(bundle: Bundle, engine: Path, *, trust: bool, needs_gpu: bool = True) -> None:
    """Whether an engine may be loaded, can be, and is one for the bundle's images, as far as its record tells.

    Raises:
        UnreadableEngineError, UntrustedEngineError, InputError: see `validate_with_bundle`.
        RuntimeUnavailableError: likewise.
    """
    from attn_export.exporter.engine.backend import load
    from attn_export.exporter.engine.sidecar import check_file, check_fits
    from attn_export.exporter.system.cuda import gpus

    record = check_file(engine, trust=trust)
    if record is not None:
        check_shapes(bundle, engine, {name: shapes.covers for name, shapes in record.profile.items()})
    here = gpus()
    if not needs_gpu:
        return
    if not here:
        raise RuntimeUnavailableError(
            f"{engine} can't be run: there is no GPU here, or no driver for it",
            runtime="tensorrt",
            hint="Run this command on the device. An ONNX file can be validated without a GPU.",
        )
    if record is not None:
        check_fits(record, engine, load(record.backend.name), here)


def check_onnx(bundle: Bundle, path: Path) -> None:
    """Whether an ONNX file is one for the bundle's images.

    Raises:
        UnreadableGraphError: it is missing, damaged or not valid.
        InputError: it takes something else.
    """
    from attn_export.exporter.graph.read import read

    model = read(path)
    inputs = {str(v.name): dims(v) for v in model.graph.inputs if v.const_value is None}
    check_shapes(bundle, path, {name: partial(_fits, known) for name, known in inputs.items()})


Takes = Callable[[tuple[int, ...]], bool]


def check_shapes(bundle: Bundle, artifact: Path, inputs: Mapping[str, Takes]) -> None:
    """Compare the inputs of an artifact with the bundle's images.

    Args:
        bundle: whose images are to run.
        artifact: for the message.
        inputs: by name, whether a shape is taken.

    Raises:
        InputError: they don't fit.
    """
    sample = bundle.sample
    hint = f"Is it made of the same network as {bundle.path.name}?"
    if set(inputs) != {sample.input_name}:
        raise InputError(
            f"{artifact} takes {', '.join(inputs) or 'nothing'}, and the bundle's input is {sample.input_name}",
            hint=hint,
        )
    for shape in sample.shapes:
        if not inputs[sample.input_name](shape):
            raise InputError(f"{artifact} doesn't take the bundle's images of {'×'.join(map(str, shape))}", hint=hint)


def _fits(known: tuple[int | str | None, ...] | None, shape: tuple[int, ...]) -> bool:
    if known is None:
        return True
    return len(known) == len(shape) and all(
        not isinstance(dim, int) or dim == size for dim, size in zip(known, shape, strict=True)
    )


def open_onnx(path: Path, signature: Signature, settings: Settings, trust: bool) -> Runtime:  # noqa: ARG001 (one form)
    """An ONNX file in ONNX Runtime, on the CPU."""
    from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime

    return OnnxRuntime(path, signature, settings)


def open_engine(path: Path, signature: Signature, settings: Settings, trust: bool) -> Runtime:
    """An engine on this machine's GPU."""
    from attn_export.exporter.runtimes.tensorrt import TensorRT

    return TensorRT(path, signature, settings, trust=trust)


def disagreement(artifact: Path, verdict: Verdict) -> DisagreementError | None:
    """The error for an artifact that computes something else; None for one that doesn't."""
    if verdict.agrees:
        return None
    worst = verdict.worst
    if worst.kind == SIZE:
        what = f"{worst.tensor} is missing or of another size"
    elif worst.error is None or worst.ratio is None:
        what = f"{worst.tensor} on {worst.kind} images holds NaN or infinity"
    else:
        what = (
            f"{worst.tensor} on {worst.kind} images is off by {worst.error:.1e}, {worst.ratio:.0f} times "
            f"{verdict.baseline} ({worst.limit:g} times are allowed)"
        )
    return DisagreementError(
        f"{artifact} doesn't compute what is expected ({verdict.reference}): {what}",
        first_seen=worst.tensor,
        hint="Was it made of this network? If it was, please report it with the versions on the device.",
    )
