"""Builds an engine from a deployment bundle, on the device."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from msgspec import structs

from attn_export.exporter.artifacts import Precision
from attn_export.exporter.bundle.read import Bundle, read_bundle
from attn_export.exporter.engine.backend import AUTO
from attn_export.exporter.engine.job import choose_backend, moves_of, write_engine
from attn_export.exporter.engine.profile import Sizes
from attn_export.exporter.engine.settings import EngineSettings, Plan
from attn_export.exporter.engine.sidecar import add_validation
from attn_export.exporter.engine.targets import CURRENT, parse_targets
from attn_export.exporter.errors import RuntimeUnavailableError, UsageError
from attn_export.exporter.records.engine import BundleSource, EngineFile
from attn_export.exporter.records.results import BuildResult
from attn_export.exporter.system import gpus
from attn_export.exporter.system.generation import publish_together
from attn_export.exporter.system.progress import NullProgress, Progress
from attn_export.exporter.system.scratch import scratch_folder
from attn_export.exporter.workflows.golden import judge_engine

COMPATIBLE = ("version_compatible", "hardware_compatible")


def build_from_bundle(
    bundle: Path,
    out: Path | None,
    *,
    precisions: Sequence[Precision] | None,
    settings: EngineSettings,
    progress: Progress,
) -> BuildResult:
    """Build an engine from a bundle, on the device. Raises UsageError: the bundle has another precision."""
    with progress.stage("Reading the bundle"):
        read = read_bundle(bundle)
    precision = read.manifest.precision
    if precisions and tuple(precisions) != (precision,):
        raise UsageError(
            f"the precision of {bundle} is {precision or 'not specified'}",
            hint="Leave --precision out, or write another bundle.",
        )
    if out is not None and out.resolve() == bundle.resolve():
        raise UsageError(f"the engine would overwrite {out}", hint="Give it another name with -o.")
    folder = bundle.parent if bundle.is_file() else bundle.resolve().parent
    engine = build_bundle(read, out or folder / f"{read.manifest.name}.engine", settings, progress)
    return BuildResult((), (engine,), ())


def build_bundle(
    bundle: Bundle | Path | str,
    out: Path | str,
    settings: EngineSettings | None = None,
    progress: Progress | None = None,
) -> EngineFile:
    """Build an engine from a bundle, on the device: ``build_bundle("model.sm87.bundle.zip", "model.engine")``.

    Needs neither torch nor ONNX Runtime nor onnxscript.

    Args:
        bundle: from `read_bundle`, or its path. It sets shapes, options and precision.
        out: the engine; ``<out>.json`` is written beside it.
        settings: backend and GPUs (default: the classic TensorRT, this machine's GPU), timing cache, workspace limit
            (default: the bundle's), and whether mixed kernels are accepted.

    Raises:
        UnreadableBundleError: the bundle is missing, incomplete or damaged.
        UsageError: the settings contradict the bundle.
        RuntimeUnavailableError: there is no GPU, or no TensorRT for it.
        DisagreementError: the engine computes something else.
        EngineError, MixedPrecisionError, OutputError: see `engine.job.build_graph`.
    """
    out, progress, settings = Path(out), progress or NullProgress(), settings or EngineSettings()
    if not isinstance(bundle, Bundle):
        with progress.stage("Reading the bundle"):
            bundle = read_bundle(bundle)
    manifest, golden = bundle.manifest, bundle.golden
    settings = settings_for_bundle(bundle, settings, gpus.found())
    backend, why, architectures = choose_backend(settings, gpus.found())
    if architectures != (manifest.architecture,):
        progress.note(f"the bundle is for {manifest.architecture}, and the engine is for {', '.join(architectures)}")
    with bundle.unpacked(out.parent) as facts, scratch_folder(out.parent) as scratch:
        plan = Plan(backend, why, architectures, facts, manifest.profile)
        source = BundleSource(bundle.path.name, bundle.sha256)
        engine = write_engine(scratch / out.name, plan, settings, manifest.precision, progress, bundle=source)
        if engine.record.not_run is None:
            engine = add_validation(engine, judge_engine(engine.path, golden, manifest.profile, progress))
        publish_together(moves_of(engine, out), scratch)
    return EngineFile(out, engine.record)


def settings_for_bundle(bundle: Bundle, asked: EngineSettings, here: tuple[gpus.Gpu, ...]) -> EngineSettings:
    """The user's settings, completed with the bundle's.

    Raises:
        UsageError: the settings contradict the bundle.
        RuntimeUnavailableError: there is no GPU.
    """
    architecture, options = bundle.manifest.architecture, bundle.manifest.options
    if asked.sizes != Sizes():
        raise UsageError(
            f"{bundle.path} sets the shapes of its engine",
            hint="Leave --profile-batch and --size out, or write another bundle.",
        )
    flags = {"tf32": "--precision tf32"} | {f: f"--{f.replace('_', '-')}" for f in COMPATIBLE}
    for flag, option in flags.items():
        if getattr(asked.options, flag) and not getattr(options, flag):
            raise UsageError(
                f"{bundle.path} was written without {option}", hint=f"Leave it out, or write the bundle with {option}."
            )
    wanted = parse_targets(asked.gpus, here)
    own = here[0].architecture if here else None
    if own is None and not wanted.architectures:
        raise RuntimeUnavailableError(
            f"the engine of {bundle.path} is built on the device ({architecture}), and there is no GPU here",
            hint="Copy the bundle to the device and run this command there.",
        )
    if not wanted.wants_engine or (not asked.gpus and own != architecture):
        raise UsageError(
            f"{bundle.path} is for {architecture}, and this machine's {here[0].name} is {own}",
            hint="Build it on the device, or use --gpu current to build it for this GPU.",
        )
    # Named architectures need TensorRT-RTX; this machine's GPU gets the TensorRT that tunes on it.
    backend = "tensorrt" if asked.backend == AUTO and not wanted.architectures else asked.backend
    options = structs.replace(
        options,
        timing_cache=asked.options.timing_cache,
        workspace_mib=asked.options.workspace_mib or options.workspace_mib,
    )
    return replace(asked, gpus=asked.gpus or (CURRENT,), backend=backend, options=options)
