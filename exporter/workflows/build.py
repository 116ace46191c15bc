"""Engines of an ONNX file, or of a deployment bundle, where there is no checkpoint to go by."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from attn_export.exporter.artifacts import Precision
from attn_export.exporter.bundle.read import Bundle, read_bundle
from attn_export.exporter.engine.backend import AUTO
from attn_export.exporter.engine.job import choose_backend, write_engine
from attn_export.exporter.engine.profile import Sizes, make_profile
from attn_export.exporter.engine.settings import EngineSettings, Plan
from attn_export.exporter.engine.sidecar import sidecar_path
from attn_export.exporter.engine.targets import CURRENT, parse_targets
from attn_export.exporter.errors import DisagreementError, InputError, RuntimeUnavailableError, UsageError
from attn_export.exporter.graph.write import external_data_of, publish_with_weights
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.engine import BundleSource, EngineFile, Profile
from attn_export.exporter.records.results import BuildResult, Deployed, Retyped
from attn_export.exporter.records.verdict import Verdict
from attn_export.exporter.system import gpus
from attn_export.exporter.system.files import refuse_folders, scratch_folder
from attn_export.exporter.system.machine import usable_cpus
from attn_export.exporter.system.progress import NullProgress, Progress
from attn_export.exporter.workflows.deploy import check_settings, deploy, publish_bundle, publish_engine
from attn_export.exporter.workflows.validate_bundle import judge_engine

if TYPE_CHECKING:
    from attn_export.exporter.bundle.golden import GoldenVectors
    from attn_export.exporter.engine.graph import GraphFacts, OnnxSource

ENDING = ".onnx"


def build_all(
    source: Path | str,
    out: Path | str | None = None,
    *,
    precisions: Sequence[Precision] | None = None,
    settings: EngineSettings | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> BuildResult:
    """Engines of an ONNX file: ``build_all("model.onnx", precisions=[Precision.FP16], settings=…)``.

    Args:
        source: any ONNX file.
        out: name of the engine, where one precision is built; beside the file if None.
        precisions: to be built, a file ``<stem>.<precision>.onnx`` is written for each that isn't the file's own;
            the types that the file has if None.
        settings: see `EngineSettings`.
        threads: of ONNX Runtime, where files of other precisions are compared with this one.
        progress: receives stages and notes.

    Raises:
        UsageError: options that don't fit each other or the file.
        DisagreementError: a file of another precision computes something else.
        AttnExportError: as `building.build_file` says. Nothing is left behind then.
    """
    source, progress, settings = Path(source), progress or NullProgress(), settings or EngineSettings()
    asked: Sequence[Precision | None] = precisions or (None,)
    if out is not None and len(asked) > 1:
        raise UsageError("-o names one engine, and several precisions were asked for", hint="Leave -o out.")
    if out is not None and not parse_targets(settings.gpus, gpus.found()).wants_engine:
        raise UsageError("-o names an engine, and for this GPU a deployment bundle is written", hint="Leave -o out.")
    folder = Path(out).parent if out is not None else source.parent
    if out is not None:
        made = [folder / f"{source.stem}{p.suffix}{ENDING}" for p in asked if p not in (None, Precision.FP32)]
        _refuse_overwriting(Path(out), [source, external_data_of(source), *made])
    check_settings(settings, progress)
    from attn_export.exporter.engine.graph import read_source

    with progress.stage("Reading the graph"):
        read = read_source(source)
    if not read.cleaned:
        progress.note(f"{source.name} is built as it is; `attn-export clean --for tensorrt` before may save kernels")
    retyped: list[Retyped] = []
    deployed: list[Deployed] = []
    with scratch_folder(folder) as scratch:
        for precision in asked:
            facts, change = _of_precision(
                read, precision, folder, scratch, settings, threads or usable_cpus(), progress
            )
            retyped += [change] if change else []
            stem = Path(out).stem if out is not None else facts.path.stem
            deployed.append(
                deploy(
                    facts,
                    scratch,
                    stem,
                    settings,
                    precision=precision,
                    golden=_golden_maker(facts, threads or usable_cpus()),
                    judge=partial(_judge_by_file, source=facts, threads=threads or usable_cpus(), progress=progress),
                    progress=progress,
                )
            )
        engines = [_named(engine, out, folder) for d in deployed for engine in d.engines]
        others = [*(change.path for change in retyped), *(bundle for d in deployed for bundle in d.bundles)]
        refuse_folders([*engines, *map(sidecar_path, engines), *(folder / path.name for path in others)])
        return BuildResult(
            tuple(publish_retyped(change, folder) for change in retyped),
            tuple(publish_engine(engine, _named(engine, out, folder)) for d in deployed for engine in d.engines),
            tuple(publish_bundle(bundle, folder) for d in deployed for bundle in d.bundles),
        )


def build_from_bundle(
    bundle: Path,
    out: Path | None,
    *,
    precisions: Sequence[Precision] | None,
    settings: EngineSettings,
    progress: Progress,
) -> BuildResult:
    """Build an engine from a deployment bundle, on the device.

    Raises:
        UsageError: ``precisions`` names another than the bundle's.
        AttnExportError: see `build_bundle`.
    """
    with progress.stage("Reading the bundle"):
        read = read_bundle(bundle)
    precision = read.manifest.precision
    if precisions and tuple(precisions) != (precision,):
        raise UsageError(
            f"the precision of {bundle} is {precision or 'not specified'}",
            hint="Leave --precision out, or write another bundle.",
        )
    if out is not None:
        _refuse_overwriting(out, [bundle])
    folder = bundle.parent if bundle.is_file() else bundle.resolve().parent
    engine = build_bundle(read, out or folder / f"{read.manifest.name}.engine", settings, progress)
    return BuildResult((), (engine,), ())


def _refuse_overwriting(out: Path, needed: Sequence[Path]) -> None:
    """Whether an engine would take the place of what it is made of.

    Raises:
        UsageError: it would.
    """
    if out.resolve() in [path.resolve() for path in needed]:
        raise UsageError(f"the engine would overwrite {out}", hint="Give it another name with -o.")


def _named(engine: EngineFile, out: Path | str | None, folder: Path) -> Path:
    return Path(out) if out is not None else folder / engine.path.name


def _of_precision(
    read: "OnnxSource",
    precision: Precision | None,
    folder: Path,
    scratch: Path,
    settings: EngineSettings,
    threads: int,
    progress: Progress,
) -> tuple["GraphFacts", Retyped | None]:
    """Facts about the file in this precision: itself, one that was made of it before, or a new one in ``scratch``.

    Raises:
        UsageError: the file is of another one that can't be changed back.
        DisagreementError: the new file computes something else.
    """
    from attn_export.exporter.engine.graph import source_of
    from attn_export.exporter.network.images import feeds_for
    from attn_export.exporter.precision.typed_file import typed
    from attn_export.exporter.validation.float16_source import compare_with_parent

    facts, source = read.facts, read.facts.path
    if precision is None or precision is read.precision:
        return facts, None
    if precision is Precision.FP32:
        raise UsageError(
            f"{source} is {read.precision}, and what was rounded away can't be brought back",
            hint="Build from the float32 file, or leave --precision out.",
        )
    profile = make_profile(facts.inputs, settings.sizes, settings.opt_batch)
    feeds = feeds_for({name: sizes.opt for name, sizes in profile.items()})
    path = scratch / f"{source.stem}{precision.suffix}{ENDING}"
    if (earlier := folder / path.name).is_file():
        with progress.stage(f"Comparing {earlier.name} with the float32 file"):
            child = _read_child(read, earlier, precision, feeds, threads)
        progress.note(
            f"{earlier} is there and agrees with {source.name}: it is used as it is"
            if child
            else f"{earlier} is there and is no child of {source.name}: it is replaced"
        )
        if child:
            return child, None
    with progress.stage(f"Changing the graph to {precision}"):
        converted, kept = typed(read.parsed, precision, feeds, path, threads, facts.blocks)
    with progress.stage("Comparing it with the float32 file"):
        verdict = compare_with_parent(read.parsed, converted, feeds, threads)
    return source_of(converted).facts, Retyped(path, kept, verdict)


def _read_child(
    parent: "OnnxSource", child: Path, precision: Precision, feeds: Sequence[Mapping[str, Array]], threads: int
) -> "GraphFacts | None":
    """Facts about a file that is of this precision and computes what its parent computes; None if it doesn't."""
    from attn_export.exporter.engine.graph import read_source
    from attn_export.exporter.validation.float16_source import compare_with_parent

    try:
        read = read_source(child)
        if read.precision is not precision:
            return None
        compare_with_parent(parent.parsed, read.parsed, feeds, threads)
    except (DisagreementError, InputError):
        return None
    return read.facts


def _golden_maker(source: "GraphFacts", threads: int) -> "Callable[[Profile], GoldenVectors]":
    def make(profile: Profile) -> "GoldenVectors":
        from attn_export.exporter.validation.golden import golden_of_file

        return golden_of_file(source, profile, threads)

    return make


def _judge_by_file(engine: EngineFile, source: "GraphFacts", threads: int, progress: Progress) -> Verdict:
    """An engine against what ONNX Runtime makes of the file that it was built from."""
    from attn_export.exporter.validation.golden import golden_of_file

    profile = engine.record.profile
    with progress.stage("Running the ONNX file"):
        golden = golden_of_file(source, profile, threads)
    return judge_engine(engine.path, golden, profile, progress)


def publish_retyped(change: Retyped, folder: Path) -> Retyped:
    """Let a file of another precision appear."""
    path = folder / change.path.name
    publish_with_weights(change.path, path)
    return Retyped(path, change.kept, change.verdict)


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
        progress: receives stages and notes.

    Raises:
        UnreadableBundleError: the bundle is missing, incomplete or damaged.
        UsageError: the settings contradict the bundle.
        RuntimeUnavailableError: there is no GPU, or no TensorRT for it.
        EngineError, MixedPrecisionError, DisagreementError, OutputError: see `engine.job.build_file`.
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
    with bundle.unpacked(out.parent) as facts:
        plan = Plan(backend, why, architectures, facts, manifest.profile)
        source = BundleSource(bundle.path.name, bundle.sha256)

        def judge(engine: EngineFile) -> Verdict:
            return judge_engine(engine.path, golden, manifest.profile, progress)

        return write_engine(out, plan, settings, manifest.precision, progress, bundle=source, judge=judge)


def settings_for_bundle(bundle: Bundle, asked: EngineSettings, here: tuple[gpus.Gpu, ...]) -> EngineSettings:
    """The user's settings, completed with the bundle's.

    Args:
        bundle: that is built.
        asked: the user's settings.
        here: this machine's GPUs.

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
    for flag in ("tf32", "version_compatible", "hardware_compatible"):
        if getattr(asked.options, flag) and not getattr(options, flag):
            option = f"--{flag.replace('_', '-')}"
            raise UsageError(
                f"{bundle.path} was written without {option}", hint=f"Leave it out, or write the bundle with {option}."
            )
    wanted = parse_targets(asked.gpus, here)
    own = here[0].architecture if here else None
    if own is None and not wanted.architectures:
        raise RuntimeUnavailableError(
            f"the engine of {bundle.path} is built on the device ({architecture}), and there is no GPU here",
            runtime=asked.backend,
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
