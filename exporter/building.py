"""One job: an ONNX file to a TensorRT engine, with the record of what it is made of."""

import errno
import json
import os
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attn_export.exporter.engine import targets as gpus
from attn_export.exporter.engine.backend import AUTO, Backend, choose
from attn_export.exporter.engine.build import BuildOptions, Built, build, check_options
from attn_export.exporter.engine.profile import Profile, Sizes, make_profile
from attn_export.exporter.engine.sidecar import SCHEMA_VERSION, beside, this_platform
from attn_export.exporter.environment import describe
from attn_export.exporter.errors import EngineError, MixedPrecisionError, RuntimeUnavailableError, UsageError
from attn_export.exporter.files import publish, scratch_folder, sha256_of, unwritable, write_text
from attn_export.exporter.gpu import Gpu
from attn_export.exporter.gpu import gpus as gpus_here
from attn_export.exporter.precision.kinds import Precision
from attn_export.exporter.progress import Progress, Silent

if TYPE_CHECKING:
    from attn_export.exporter.engine.cost import BlockCost
    from attn_export.exporter.engine.graph import GraphFacts
    from attn_export.exporter.engine.kernels import KernelReport
    from attn_export.exporter.engine.truth import MixedKernel
    from attn_export.exporter.kit.read import Kit

SHOWN_KERNELS = 5


@dataclass(frozen=True)
class EngineSettings:
    """How an engine is built.

    Attributes:
        gpus: as typed: architectures, product names, "current"; none: the backend's default.
        backend: "auto", "tensorrt" or "tensorrt-rtx".
        sizes: for the axes that are open.
        usual_batch: N that engines are tuned for where none is asked.
        options: passed through to TensorRT.
        allow_mixed: accept kernels in other types than the graph says; the record names them all the same.
        keep_going: where one of several GPUs can't be built for, build for the others.
        compare_plain: count the kernels of the network without attention as well, which takes a second build.
    """

    gpus: tuple[str, ...] = ()
    backend: str = AUTO
    sizes: Sizes = field(default_factory=Sizes)
    usual_batch: int = 1
    options: BuildOptions = field(default_factory=BuildOptions)
    allow_mixed: bool = False
    keep_going: bool = False
    compare_plain: bool = True


@dataclass(frozen=True)
class EngineFile:
    """An engine on disk.

    Attributes:
        path: the file; ``<path>.json`` beside it is its record.
        record: the record's content.
        failed: GPUs that it couldn't be built for, with the reasons.
    """

    path: Path
    record: dict[str, Any]
    failed: dict[str, EngineError] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What is going to be built, checked as far as that can be done before building.

    Attributes:
        backend: that builds.
        why: it was chosen.
        architectures: as `targets.resolve` gave them.
        facts: of the graph.
        profile: for all of its inputs.
    """

    backend: Backend
    why: str
    architectures: tuple[str, ...]
    facts: "GraphFacts"
    profile: Profile


def choose_backend(settings: EngineSettings, here: tuple[Gpu, ...]) -> tuple[Backend, str, tuple[str, ...]]:
    """Backend, reason and architectures, before anything that takes time.

    Raises:
        UsageError, RuntimeUnavailableError: something that was asked for isn't there or doesn't fit.
    """
    wanted = gpus.parse_targets(settings.gpus, here)
    backend, why = choose(settings.backend, named_gpus=wanted.names_gpus, has_gpu=bool(here))
    architectures = gpus.resolve(wanted, backend, here)
    check_options(settings.options, backend)
    return backend, why, architectures


def build_file(
    source: Path | str,
    out: Path | str,
    settings: EngineSettings | None = None,
    *,
    precision: Precision | None = None,
    progress: Progress | None = None,
) -> EngineFile:
    """Build an engine: ``build_file("model.onnx", "model.engine", EngineSettings(gpus=("sm86",)))``.

    Args:
        source: any ONNX file; its types are those of the engine.
        out: the engine; ``<out>.json`` is written beside it.
        settings: see `EngineSettings`.
        precision: what was asked for, for the record; what the graph says if None.
        progress: hears what is being done.

    Raises:
        UnreadableGraphError: the file isn't there, is damaged, or isn't valid ONNX.
        UsageError: an option doesn't fit the file, the backend or another option.
        RuntimeUnavailableError: no TensorRT that could build it.
        EngineError: TensorRT can't build it.
        MixedPrecisionError: kernels run in other types than the graph says.
        OutputError: the result can't be written.
    """
    from attn_export.exporter.engine.graph import read_graph

    source, out, progress = Path(source), Path(out), progress or Silent()
    settings = settings or EngineSettings()
    if out.resolve() == source.resolve():
        raise UsageError(f"the engine would overwrite {source}", hint="Give it another name.")
    backend, why, architectures = choose_backend(settings, gpus_here())
    with progress.stage("Reading the graph"):
        facts = read_graph(source)
    profile = make_profile(facts.inputs, settings.sizes, settings.usual_batch)
    plan = Plan(backend, why, architectures, facts, profile)
    return _write_engine(out, plan, settings, precision, progress)


def build_kit(
    kit: "Kit | Path | str",
    out: Path | str,
    settings: EngineSettings | None = None,
    progress: Progress | None = None,
) -> EngineFile:
    """Build an engine from a kit, on the device: ``build_kit("model.sm87.kit.zip", "model.engine")``.

    Needs neither torch nor ONNX Runtime nor onnxscript.

    Args:
        kit: that `kit.read_kit` gave, or its path. Shapes, options and precision are the kit's.
        out: the engine; ``<out>.json`` is written beside it.
        settings: backend and GPUs, by default the classic TensorRT and this machine's own; the timing cache; a limit
            for the workspace instead of the kit's; what becomes of mixed kernels.
        progress: hears what is being done.

    Raises:
        UnreadableKitError: the kit is missing, incomplete or damaged.
        UsageError: what is asked for isn't what the kit is for.
        RuntimeUnavailableError: there is no GPU, or no TensorRT for it.
        EngineError, MixedPrecisionError, OutputError: as `build_file` says.
    """
    from attn_export.exporter.kit.read import Kit, read_kit

    out, progress, settings = Path(out), progress or Silent(), settings or EngineSettings()
    if not isinstance(kit, Kit):
        with progress.stage("Reading the kit"):
            kit = read_kit(kit)
    settings = settings_for_kit(kit, settings, gpus_here())
    backend, why, architectures = choose_backend(settings, gpus_here())
    if architectures != (kit.architecture,):
        progress.note(f"the kit is for {kit.architecture}, and the engine is for {', '.join(architectures)}, as asked")
    with kit.unpacked(out.parent) as facts:
        plan = Plan(backend, why, architectures, facts, kit.profile)
        origin = {"path": kit.path.name, "sha256": kit.sha256}
        return _write_engine(out, plan, settings, kit.precision, progress, kit=origin)


def settings_for_kit(kit: "Kit", asked: EngineSettings, here: tuple[Gpu, ...]) -> EngineSettings:
    """The settings with what the kit says, and what was asked where that is the device's own affair.

    Args:
        kit: that is built.
        asked: by the user.
        here: this machine's GPUs.

    Raises:
        UsageError: what is asked for isn't what the kit is for.
        RuntimeUnavailableError: there is no GPU.
    """
    if asked.sizes != Sizes():
        raise UsageError(
            f"{kit.path} says for which shapes its engine is",
            hint="Leave --batch and --size out, or write another kit.",
        )
    for flag in ("tf32", "version_compatible", "hardware_compatible"):
        if getattr(asked.options, flag) and not getattr(kit.options, flag):
            option = f"--{flag.replace('_', '-')}"
            raise UsageError(
                f"{kit.path} was written without {option}", hint=f"Leave it out, or write the kit with {option}."
            )
    wanted = gpus.parse_targets(asked.gpus, here)
    own = here[0].architecture if here else None
    if own is None and not wanted.architectures:
        raise RuntimeUnavailableError(
            f"the engine of {kit.path} is built on the device ({kit.architecture}), and there is no GPU here",
            runtime=asked.backend,
            hint="Copy the kit to the device and run this command there.",
        )
    if not wanted.wants_engine or (not asked.gpus and own != kit.architecture):
        raise UsageError(
            f"{kit.path} is for {kit.architecture}, and this machine's {here[0].name} is {own}",
            hint="Build it on the device; --gpu current builds it for this one nevertheless.",
        )
    options = replace(
        kit.options,
        timing_cache=asked.options.timing_cache,
        workspace_mib=asked.options.workspace_mib or kit.options.workspace_mib,
    )
    # What is named is built by who builds by name; this machine's own is left to the one that tunes on it.
    backend = "tensorrt" if asked.backend == AUTO and not wanted.architectures else asked.backend
    return replace(asked, gpus=asked.gpus or (gpus.CURRENT,), backend=backend, options=options)


def _write_engine(
    out: Path,
    plan: Plan,
    settings: EngineSettings,
    precision: Precision | None,
    progress: Progress,
    kit: dict[str, str] | None = None,
) -> EngineFile:
    """Build, and let engine and record appear. ``kit``: name and sha256 of the one that it is built from."""
    with scratch_folder(out.parent) as scratch:
        built, plan, failed = _built(plan, settings, progress)
        engine = scratch / out.name
        try:
            engine.write_bytes(built.plan)
        except OSError as error:
            raise unwritable(out, error) from error
        built = replace(built, plan=memoryview(b""))  # a hundred megabytes that nothing needs any more
        record = {**_record(engine, plan, built, settings, precision, scratch, progress), "kit": kit}
        write_text(beside(engine), json.dumps(record, indent=1, allow_nan=False) + "\n")
        for path in (out, beside(out)):
            if path.is_dir():  # before one of the two is there
                raise unwritable(path, IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)))
        publish(beside(engine), beside(out))
        publish(engine, out)
    return EngineFile(out, record, failed)


def _built(plan: Plan, settings: EngineSettings, progress: Progress) -> tuple[Built, Plan, dict[str, EngineError]]:
    """The engine for all GPUs, or for those that it can be built for.

    Raises:
        EngineError: naming the GPUs that it can't be built for, where there are others.
    """

    def attempt(architectures: tuple[str, ...]) -> Built:
        with progress.stage(f"Building the engine for {', '.join(architectures)}") as advance:
            return build(
                plan.backend,
                plan.facts.path,
                plan.profile,
                architectures,
                settings.options,
                modules=plan.facts.modules,
                advance=advance,
            )

    try:
        return attempt(plan.architectures), plan, {}
    except EngineError as error:
        if len(plan.architectures) < 2:
            raise
        together = error
    failed: dict[str, EngineError] = {}
    for architecture in plan.architectures:
        try:
            attempt((architecture,))
        except EngineError as error:
            failed[architecture] = error
    good = tuple(a for a in plan.architectures if a not in failed)
    if not failed or not good:
        raise together
    names, first = ", ".join(failed), next(iter(failed.values()))
    if not settings.keep_going:
        raise EngineError(
            f"no engine for {names}: {first.message}",
            problems=first.problems,
            hint=f"{first.hint} --keep-going builds for {', '.join(good)} alone.",
        ) from first
    progress.note(f"no engine for {names}: {first.message}")
    plan = replace(plan, architectures=good)
    return attempt(good), plan, failed


def _record(
    engine: Path,
    plan: Plan,
    built: Built,
    settings: EngineSettings,
    precision: Precision | None,
    scratch: Path,
    progress: Progress,
) -> dict[str, Any]:
    """What stands beside the engine.

    Raises:
        MixedPrecisionError: kernels run in other types than the graph says.
    """
    from attn_export.exporter.engine.cost import block_costs
    from attn_export.exporter.engine.truth import mixed_kernels

    report = kernels_of(plan.backend, built, engine)
    mixed = mixed_kernels(report, plan.facts.types)
    if mixed and not settings.allow_mixed:
        raise mixed_error(mixed)
    return {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "sha256": sha256_of(engine),
        "bytes": engine.stat().st_size,
        "backend": {"name": plan.backend.name, "version": plan.backend.version, "why": plan.why},
        "gpus": list(plan.architectures),
        "platform": this_platform(),
        "precision": {
            "asked": str(precision) if precision else None,
            "graph": sorted(plan.facts.all_types),
            "kernels": list(report.types),
            "mixed": [asdict(kernel) for kernel in mixed],
        },
        "options": {
            **asdict(settings.options),
            "timing_cache": str(settings.options.timing_cache) if settings.options.timing_cache else None,
        },
        "profile": {name: asdict(shapes) for name, shapes in plan.profile.items()},
        "io": {
            "inputs": {name: list(dims) for name, dims in plan.facts.inputs.items()},
            "outputs": {name: list(dims) for name, dims in plan.facts.outputs.items()},
        },
        "onnx": {"path": plan.facts.path.name, "sha256": sha256_of(plan.facts.path)},
        "attention": [asdict(block) for block in plan.facts.blocks],
        "cost": cost_record(report, block_costs(report, plan.facts), _plain_kernels(plan, settings, scratch, progress)),
        "kernels": {**asdict(report), "count": len(report.kernels) or None},
        "build": {"seconds": round(built.seconds, 3), "peak_bytes": built.peak_bytes},
        "validation": None,
        "environment": describe(),
    }


def kernels_of(backend: Backend, built: Built, engine: Path) -> "KernelReport":
    """What runs: from the log of the build, or from the engine where there is a GPU to load it on."""
    from attn_export.exporter.engine.kernels import read_inspector, read_log

    if backend.is_rtx:
        return read_log(built.log)
    logger = built.log.logger(backend.trt)
    runtime = backend.trt.Runtime(logger)
    loaded = runtime.deserialize_cuda_engine(engine.read_bytes())
    if loaded is None:
        return read_inspector("{}")
    inspector = loaded.create_engine_inspector()
    return read_inspector(inspector.get_engine_information(backend.trt.LayerInformationFormat.JSON))


def mixed_error(mixed: "tuple[MixedKernel, ...]") -> MixedPrecisionError:
    """The error for an engine that computes in other types than its graph."""
    count = len(mixed)
    shown = "".join(f"\n  {kernel}" for kernel in mixed[:SHOWN_KERNELS]) + ("\n  …" if count > SHOWN_KERNELS else "")
    return MixedPrecisionError(
        f"{count} kernel{'s run' if count > 1 else ' runs'} in another type than the graph says:{shown}",
        kernels=[kernel.kernel for kernel in mixed],
        hint="No engine was written. --allow-mixed accepts it, and the record says so.",
    )


def _plain_kernels(plan: Plan, settings: EngineSettings, scratch: Path, progress: Progress) -> int | None:
    """How many kernels the same network has without its attention; None where that can't be told."""
    if not plan.facts.blocks or not settings.compare_plain or not plan.backend.is_rtx:
        return None
    from attn_export.exporter import onnx_file
    from attn_export.exporter.engine.cost import without_attention
    from attn_export.exporter.engine.kernels import read_log

    with progress.stage("Counting the kernels without attention") as advance, scratch_folder(scratch) as folder:
        model = without_attention(plan.facts.path, plan.facts.blocks)
        if model is None:
            return None
        path = folder / "plain.onnx"
        onnx_file.save(model, path)
        del model
        try:
            plain = build(plan.backend, path, plan.profile, plan.architectures, settings.options, advance=advance)
        except EngineError:  # the engine is there; only this number isn't
            return None
        return len(read_log(plain.log).kernels) or None


def cost_record(report: "KernelReport", costs: "tuple[BlockCost, ...]", plain: int | None) -> dict[str, Any]:
    """What attention costs, block by block and in all."""
    return {
        "kernels": len(report.kernels) or None,
        "kernels_without_attention": plain,
        "blocks": [asdict(cost) for cost in costs],
    }
