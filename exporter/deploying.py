"""What goes to the GPU: engines for those that can be built for here, build kits for the others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attn_export.exporter.building import EngineFile, EngineSettings, Judge, build_file, choose_backend
from attn_export.exporter.engine.backend import AUTO
from attn_export.exporter.engine.profile import Profile, make_profile
from attn_export.exporter.engine.sidecar import beside
from attn_export.exporter.engine.targets import Targets, parse_targets
from attn_export.exporter.environment import usable_cpus
from attn_export.exporter.errors import UsageError
from attn_export.exporter.files import publish, scratch_folder
from attn_export.exporter.gpu import gpus
from attn_export.exporter.precision.kinds import Kept, Precision
from attn_export.exporter.progress import Progress, Silent

if TYPE_CHECKING:
    from attn_export.exporter.kit import Sample
    from attn_export.exporter.validation.rounding import Rounding

ENDING = ".onnx"


@dataclass(frozen=True)
class Deployed:
    """What was made of one ONNX file.

    Attributes:
        engines: one, or none if only kits were asked for.
        kits: one for each architecture that is built for on the device.
    """

    engines: tuple[EngineFile, ...]
    kits: tuple[Path, ...]


@dataclass(frozen=True)
class Retyped:
    """A file of another precision, made of the one that was given.

    Attributes:
        path: the file.
        kept: nodes that stay in float32.
        rounding: how its outputs stand to its parent's.
    """

    path: Path
    kept: tuple[Kept, ...]
    rounding: "Rounding"


@dataclass(frozen=True)
class BuildResult:
    """What `build_all` made, under the names that people see.

    Attributes:
        retyped: files of other precisions.
        engines, kits: made of these, or of the file that was given.
    """

    retyped: tuple[Retyped, ...]
    engines: tuple[EngineFile, ...]
    kits: tuple[Path, ...]


def check_settings(settings: EngineSettings, progress: Progress) -> Targets:
    """Find out before anything takes time whether what was asked for can be built at all, and say what will build it.

    Raises:
        UsageError, RuntimeUnavailableError: as `building.choose_backend` says.
    """
    wanted = parse_targets(settings.gpus, gpus())
    if wanted.wants_engine:
        backend, why, _ = choose_backend(_here(settings, wanted), gpus())
        if settings.backend == AUTO:
            progress.note(f"{backend} builds: {why}")
    return wanted


def _here(settings: EngineSettings, wanted: Targets) -> EngineSettings:
    """The settings without the architectures that get a kit."""
    names = (*wanted.architectures, *(["current"] if wanted.current else []))
    return replace(settings, gpus=names)


def deploy(
    source: Path,
    folder: Path,
    stem: str,
    settings: EngineSettings,
    *,
    precision: Precision | None,
    sample: "Callable[[Profile], Sample]",
    judge: Judge,
    progress: Progress,
) -> Deployed:
    """Make an engine and kits of one ONNX file.

    Args:
        source: the file, typed as the engine shall be.
        folder: where the results go.
        stem: of their names: ``<stem>.engine``, ``<stem>.sm87.kit.zip``.
        settings: of the build.
        precision: for the records.
        sample: gives the images and results that a kit carries, for a profile.
        judge: runs an engine before it gets its name, where there is a GPU for it.
        progress: hears what is being done.

    Raises:
        AttnExportError: as `building.build_file` and `kit.write_kit` say.
    """
    wanted = parse_targets(settings.gpus, gpus())
    engines = []
    if wanted.wants_engine:
        out = folder / f"{stem}.engine"
        here = _here(settings, wanted)
        engines.append(build_file(source, out, here, precision=precision, judge=judge, progress=progress))
    kits = [_kit(source, folder, stem, a, settings, precision, sample, progress) for a in wanted.kits]
    return Deployed(tuple(engines), tuple(kits))


def _kit(
    source: Path,
    folder: Path,
    stem: str,
    architecture: str,
    settings: EngineSettings,
    precision: Precision | None,
    sample: "Callable[[Profile], Sample]",
    progress: Progress,
) -> Path:
    from attn_export.exporter.engine.graph import read_graph
    from attn_export.exporter.kit import write_kit

    with progress.stage(f"Packing the build kit for {architecture}"):
        facts = read_graph(source)
        profile = make_profile(facts.inputs, settings.sizes, settings.usual_batch)
        return write_kit(
            folder / f"{stem}.{architecture}.kit.zip",
            source,
            facts=facts,
            profile=profile,
            architecture=architecture,
            precision=precision,
            options=settings.options,
            sample=sample(profile),
        )


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
        progress: hears what is being done.

    Raises:
        UsageError: options that don't fit each other or the file.
        DisagreementError: a file of another precision computes something else.
        AttnExportError: as `building.build_file` says. Nothing is left behind then.
    """
    source, progress, settings = Path(source), progress or Silent(), settings or EngineSettings()
    asked: Sequence[Precision | None] = precisions or (None,)
    if out is not None and len(asked) > 1:
        raise UsageError("-o names one engine, and several precisions were asked for", hint="Leave -o out.")
    check_settings(settings, progress)
    folder = Path(out).parent if out is not None else source.parent
    retyped: list[Retyped] = []
    deployed: list[Deployed] = []
    with scratch_folder(folder) as scratch:
        for precision in asked:
            file, change = _of_precision(source, precision, scratch, settings, threads or usable_cpus(), progress)
            retyped += [change] if change else []
            stem = Path(out).stem if out is not None else file.stem
            deployed.append(
                deploy(
                    file,
                    scratch,
                    stem,
                    settings,
                    precision=precision,
                    sample=_sample_maker(file, threads or usable_cpus()),
                    judge=partial(_judge_by_file, source=file, threads=threads or usable_cpus(), progress=progress),
                    progress=progress,
                )
            )
        return BuildResult(
            tuple(publish_retyped(change, folder) for change in retyped),
            tuple(publish_engine(engine, _named(engine, out, folder)) for d in deployed for engine in d.engines),
            tuple(publish_kit(kit, folder) for d in deployed for kit in d.kits),
        )


def is_kit(source: Path) -> bool:
    """Whether a path names a build kit, or the folder of one."""
    from attn_export.exporter.kit.read import is_kit as looks_like_one

    return looks_like_one(source)


def build_from_kit(
    kit: Path,
    out: Path | None,
    *,
    precisions: Sequence[Precision] | None,
    settings: EngineSettings,
    progress: Progress,
) -> BuildResult:
    """The same from a build kit, on the device.

    Raises:
        UsageError: another precision is asked for than the kit has.
        AttnExportError: as `kit.building.build_kit` says.
    """
    from attn_export.exporter.kit.building import build_kit
    from attn_export.exporter.kit.read import read_kit

    with progress.stage("Reading the kit"):
        read = read_kit(kit)
    if precisions and tuple(precisions) != (read.precision,):
        raise UsageError(
            f"{kit} is typed {read.precision or 'as its graph is'}", hint="Leave --precision out, or write another kit."
        )
    folder = kit.parent if kit.is_file() else kit.resolve().parent
    made = build_kit(read, out or folder / f"{read.name}.engine", settings, progress)
    return BuildResult((), (made,), ())


def _named(engine: EngineFile, out: Path | str | None, folder: Path) -> Path:
    return Path(out) if out is not None else folder / engine.path.name


def _of_precision(
    source: Path,
    precision: Precision | None,
    scratch: Path,
    settings: EngineSettings,
    threads: int,
    progress: Progress,
) -> tuple[Path, Retyped | None]:
    """The file in this precision: itself, or a new one in ``scratch``.

    Raises:
        UsageError: the file is of another one that can't be changed back.
        DisagreementError: the new file computes something else.
    """
    from attn_export.exporter.precision.typed_file import precision_of, typed
    from attn_export.exporter.validation.inputs import feeds_for
    from attn_export.exporter.validation.rounding import compare_with_parent

    own = precision_of(source)
    if precision is None or precision is own:
        return source, None
    if precision is Precision.FP32:
        raise UsageError(
            f"{source} is {own}, and what was rounded away can't be brought back",
            hint="Build from the float32 file, or leave --precision out.",
        )
    path = scratch / f"{source.stem}{precision.suffix}{ENDING}"
    with progress.stage(f"Changing the graph to {precision}"):
        from attn_export.exporter.engine.graph import read_inputs

        shapes = make_profile(read_inputs(source), settings.sizes, settings.usual_batch)
        feeds = feeds_for({name: sizes.usual for name, sizes in shapes.items()})
        _, kept = typed(source, precision, feeds, path, threads)
    with progress.stage("Comparing it with the float32 file"):
        rounding = compare_with_parent(source, path, feeds, threads)
    return path, Retyped(path, kept, rounding)


def _sample_maker(source: Path, threads: int) -> "Callable[[Profile], Sample]":
    def make(profile: Profile) -> "Sample":
        from attn_export.exporter.kit.sample import sample_of_file

        return sample_of_file(source, profile, threads)

    return make


def _judge_by_file(engine: EngineFile, source: Path, threads: int, progress: Progress) -> dict[str, Any]:
    """An engine against what ONNX Runtime makes of the file that it was built from."""
    from attn_export.exporter.kit.sample import sample_of_file
    from attn_export.exporter.kit.validating import judge_engine

    profile = {name: engine.taken(name) for name in engine.record["profile"]}
    with progress.stage("Running the ONNX file"):
        sample = sample_of_file(source, profile, threads)
    return judge_engine(engine.path, sample, profile, progress)


def publish_retyped(change: Retyped, folder: Path) -> Retyped:
    """Let a file of another precision appear."""
    from attn_export.exporter.onnx_file import publish_with_weights

    path = folder / change.path.name
    publish_with_weights(change.path, path)
    return Retyped(path, change.kept, change.rounding)


def publish_engine(engine: EngineFile, path: Path) -> EngineFile:
    """Let an engine appear under its name, and its record with it."""
    publish(engine.path, path)
    publish(beside(engine.path), beside(path))
    return EngineFile(path, engine.record, engine.failed)


def publish_kit(file: Path, folder: Path) -> Path:
    """Let a kit appear."""
    publish(file, folder / file.name)
    return folder / file.name


def build_summary(result: BuildResult) -> dict[str, Any]:
    """The result as plain values."""
    return {
        "onnx": [
            {"path": str(r.path), "kept_in_float32": [vars(kept) for kept in r.kept], "comparison": vars(r.rounding)}
            for r in result.retyped
        ],
        "engines": [
            {
                "path": str(engine.path),
                **{key: value for key, value in engine.record.items() if key not in ("kernels", "schema_version")},
                "failed": {gpu: error.message for gpu, error in engine.failed.items()},
            }
            for engine in result.engines
        ],
        "kits": [str(kit) for kit in result.kits],
    }
