"""Builds an engine and its sidecar from an ONNX file."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from attn_export.exporter.artifacts import Precision
from attn_export.exporter.engine.backend import Backend, choose
from attn_export.exporter.engine.build import Built, build, check_options
from attn_export.exporter.engine.profile import make_profile
from attn_export.exporter.engine.settings import EngineSettings, Plan
from attn_export.exporter.engine.sidecar import sidecar_path, write_sidecar
from attn_export.exporter.engine.targets import parse_targets, resolve
from attn_export.exporter.errors import EngineError
from attn_export.exporter.records.engine import BundleSource, EngineFile
from attn_export.exporter.system import gpus
from attn_export.exporter.system.bounds import bounded_work
from attn_export.exporter.system.files import total_bytes, unwritable
from attn_export.exporter.system.generation import Move, publish_together
from attn_export.exporter.system.progress import Progress
from attn_export.exporter.system.scratch import scratch_folder

if TYPE_CHECKING:
    from attn_export.exporter.engine.graph import GraphFacts


def choose_backend(settings: EngineSettings, here: tuple[gpus.Gpu, ...]) -> tuple[Backend, str, tuple[str, ...]]:
    """Backend, reason for it, and architectures.

    Raises:
        UsageError, RuntimeUnavailableError: a requested backend, GPU or option isn't available.
    """
    targets = parse_targets(settings.gpus, here)
    others = set(targets.architectures) - {gpu.architecture for gpu in here[:1]}
    backend, why = choose(settings.backend, named_gpus=bool(others), has_gpu=bool(here))
    architectures = resolve(targets, backend, here)
    check_options(settings.options, backend)
    return backend, why, architectures


def build_graph(
    facts: "GraphFacts", out: Path, settings: EngineSettings, *, precision: Precision | None, progress: Progress
) -> EngineFile:
    """Build an engine of a file and its sidecar ``<out>.json``; ``precision`` is as requested, for the record.

    Raises:
        UsageError: an option conflicts with the file, the backend or another option.
        RuntimeUnavailableError: no suitable TensorRT.
        EngineError: TensorRT can't build it.
        MixedPrecisionError: kernels compute in other types than the graph.
        OutputError: the result can't be written.
    """
    backend, why, architectures = choose_backend(settings, gpus.found())
    profile = make_profile(facts.inputs, settings.sizes, settings.opt_batch)
    plan = Plan(backend, why, architectures, facts, profile)
    return write_engine(out, plan, settings, precision, progress)


def write_engine(
    out: Path,
    plan: Plan,
    settings: EngineSettings,
    precision: Precision | None,
    progress: Progress,
    *,
    bundle: BundleSource | None = None,
) -> EngineFile:
    """Build an engine and publish it with its sidecar.

    Errors as for `build_graph`; ``bundle`` is the deployment bundle of the ONNX file.
    """
    from attn_export.exporter.engine.record import engine_record

    with scratch_folder(out.parent) as scratch:
        built, plan, failed = _built(plan, settings, progress)
        engine = scratch / out.name
        try:
            engine.write_bytes(built.plan)
        except OSError as error:
            raise unwritable(out, error) from error
        built = replace(built, plan=memoryview(b""))  # frees some hundred megabytes
        record = engine_record(
            engine,
            plan,
            built,
            settings,
            precision=precision,
            failed=failed,
            bundle=bundle,
            scratch=scratch,
            progress=progress,
        )
        write_sidecar(engine, record)
        publish_together(moves_of(EngineFile(engine, record), out), scratch)
    return EngineFile(out, record)


def moves_of(engine: EngineFile, path: Path) -> list[Move]:
    """What is to be published for a finished engine: its sidecar and itself."""
    return [(sidecar_path(engine.path), sidecar_path(path)), (engine.path, path)]


def bounds_of(plan: Plan) -> AbstractContextManager[None]:
    """Bounds for TensorRT-RTX, which builds on the CPU alone; TensorRT measures its kernels on a GPU and gets none."""
    size = total_bytes(plan.facts.path, *plan.facts.weight_files)
    return bounded_work(size) if plan.backend.is_rtx else nullcontext()


def _built(plan: Plan, settings: EngineSettings, progress: Progress) -> tuple[Built, Plan, dict[str, EngineError]]:
    """The engine for all GPUs, or with ``keep_going`` for those that succeed."""

    def attempt(architectures: tuple[str, ...]) -> Built:
        with progress.stage(f"Building the engine for {', '.join(architectures)}") as advance, bounds_of(plan):
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
        joint = error
    failed: dict[str, EngineError] = {}
    for architecture in plan.architectures:
        try:
            attempt((architecture,))
        except EngineError as error:
            failed[architecture] = error
    good = tuple(a for a in plan.architectures if a not in failed)
    if not failed or not good:
        raise joint
    names, first = ", ".join(failed), next(iter(failed.values()))
    if not settings.keep_going:
        raise EngineError(
            f"no engine for {names}: {first.message}",
            hint=f"{first.hint} --keep-going builds for {', '.join(good)} alone.",
        ) from first
    progress.note(f"no engine for {names}: {first.message}")
    plan = replace(plan, architectures=good)
    return attempt(good), plan, failed
