"""Engines of an ONNX file, or of a build kit, where there is no checkpoint to go by."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attn_export.exporter.building import EngineFile, EngineSettings, refuse_folders
from attn_export.exporter.deploying import Deployed, check_settings, deploy, publish_engine, publish_kit
from attn_export.exporter.engine.profile import Profile, make_profile
from attn_export.exporter.engine.sidecar import beside
from attn_export.exporter.engine.targets import parse_targets
from attn_export.exporter.environment import usable_cpus
from attn_export.exporter.errors import DisagreementError, InputError, UsageError
from attn_export.exporter.files import scratch_folder
from attn_export.exporter.gpu import gpus
from attn_export.exporter.onnx_file import external_data_of, publish_with_weights
from attn_export.exporter.precision.kinds import Kept, Precision
from attn_export.exporter.progress import Progress, Silent

if TYPE_CHECKING:
    from attn_export.exporter.kit import Sample
    from attn_export.exporter.validation.rounding import Rounding

ENDING = ".onnx"


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
    if out is not None and not parse_targets(settings.gpus, gpus()).wants_engine:
        raise UsageError("-o names an engine, and for this GPU a build kit is written", hint="Leave -o out.")
    folder = Path(out).parent if out is not None else source.parent
    if out is not None:
        made = [folder / f"{source.stem}{p.suffix}{ENDING}" for p in asked if p not in (None, Precision.FP32)]
        _refuse_overwriting(Path(out), [source, external_data_of(source), *made])
    check_settings(settings, progress)
    if not _is_cleaned(source):
        progress.note(f"{source.name} is built as it is; `attn-export clean --for tensorrt` before may save kernels")
    retyped: list[Retyped] = []
    deployed: list[Deployed] = []
    with scratch_folder(folder) as scratch:
        for precision in asked:
            file, change = _of_precision(
                source, precision, folder, scratch, settings, threads or usable_cpus(), progress
            )
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
        engines = [_named(engine, out, folder) for d in deployed for engine in d.engines]
        others = [*(change.path for change in retyped), *(kit for d in deployed for kit in d.kits)]
        refuse_folders([*engines, *map(beside, engines), *(folder / path.name for path in others)])
        return BuildResult(
            tuple(publish_retyped(change, folder) for change in retyped),
            tuple(publish_engine(engine, _named(engine, out, folder)) for d in deployed for engine in d.engines),
            tuple(publish_kit(kit, folder) for d in deployed for kit in d.kits),
        )


def _is_cleaned(source: Path) -> bool:
    """Whether a file went through the cleanup: then it carries its inventory, or has nothing to list.

    Raises:
        UnreadableGraphError: it isn't there, is damaged, or isn't valid ONNX.
    """
    from attn_export.exporter.inventory.blocks import METADATA_KEY
    from attn_export.exporter.onnx_file import PRODUCER
    from attn_export.exporter.onnx_reader import read

    model = read(source)
    return METADATA_KEY in model.metadata_props or model.producer_name == PRODUCER


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
    if out is not None:
        _refuse_overwriting(out, [kit])
    folder = kit.parent if kit.is_file() else kit.resolve().parent
    made = build_kit(read, out or folder / f"{read.name}.engine", settings, progress)
    return BuildResult((), (made,), ())


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
    source: Path,
    precision: Precision | None,
    folder: Path,
    scratch: Path,
    settings: EngineSettings,
    threads: int,
    progress: Progress,
) -> tuple[Path, Retyped | None]:
    """The file in this precision: itself, one that was made of it before, or a new one in ``scratch``.

    Raises:
        UsageError: the file is of another one that can't be changed back.
        DisagreementError: the new file computes something else.
    """
    from attn_export.exporter.engine.graph import read_graph
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
    facts = read_graph(source)
    profile = make_profile(facts.inputs, settings.sizes, settings.usual_batch)
    feeds = feeds_for({name: sizes.usual for name, sizes in profile.items()})
    path = scratch / f"{source.stem}{precision.suffix}{ENDING}"
    if (earlier := folder / path.name).is_file():
        with progress.stage(f"Comparing {earlier.name} with the float32 file"):
            agrees = _is_child(source, earlier, precision, feeds, threads)
        progress.note(
            f"{earlier} is there and agrees with {source.name}: it is used as it is"
            if agrees
            else f"{earlier} is there and is no child of {source.name}: it is replaced"
        )
        if agrees:
            return earlier, None
    with progress.stage(f"Changing the graph to {precision}"):
        _, kept = typed(source, precision, feeds, path, threads, facts.blocks)
    with progress.stage("Comparing it with the float32 file"):
        rounding = compare_with_parent(source, path, feeds, threads)
    return path, Retyped(path, kept, rounding)


def _is_child(parent: Path, child: Path, precision: Precision, feeds: Sequence[dict[str, Any]], threads: int) -> bool:
    """Whether a file is of this precision and computes what its parent computes."""
    from attn_export.exporter.precision.typed_file import precision_of
    from attn_export.exporter.validation.rounding import compare_with_parent

    try:
        if precision_of(child) is not precision:
            return False
        compare_with_parent(parent, child, feeds, threads)
    except (DisagreementError, InputError):
        return False
    return True


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
    path = folder / change.path.name
    publish_with_weights(change.path, path)
    return Retyped(path, change.kept, change.rounding)


def rounding_record(rounding: "Rounding") -> dict[str, Any]:
    """A comparison with the parent, with what follows from it."""
    return {**asdict(rounding), "ratio": rounding.ratio}


def build_summary(result: BuildResult) -> dict[str, Any]:
    """The result as plain values."""
    return {
        "onnx": [
            {
                "path": str(r.path),
                "kept_in_float32": [vars(kept) for kept in r.kept],
                "comparison": rounding_record(r.rounding),
            }
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
