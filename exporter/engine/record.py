"""The record of an engine: source, backend, GPUs, options and kernels."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from attn_export.exporter.artifacts import Precision
from attn_export.exporter.engine.backend import Backend
from attn_export.exporter.engine.build import Built
from attn_export.exporter.engine.cost import ablated_kernels, block_costs
from attn_export.exporter.engine.kernels import read_inspector, read_log
from attn_export.exporter.engine.log import uncollected
from attn_export.exporter.engine.precision_audit import mixed_kernels
from attn_export.exporter.engine.sidecar import this_platform, why_not_here
from attn_export.exporter.errors import EngineError, MixedPrecisionError
from attn_export.exporter.records.engine import (
    BackendRecord,
    BuildRecord,
    BundleSource,
    EngineCost,
    EngineIo,
    EngineRecord,
    KernelReport,
    MixedKernel,
    PrecisionAudit,
    SourceFile,
)
from attn_export.exporter.records.environment import describe
from attn_export.exporter.system import gpus
from attn_export.exporter.system.files import sha256_of
from attn_export.exporter.system.progress import Progress

if TYPE_CHECKING:
    from attn_export.exporter.engine.settings import EngineSettings, Plan

SHOWN_KERNELS = 5


def engine_record(
    engine: Path,
    plan: "Plan",
    built: Built,
    settings: "EngineSettings",
    *,
    precision: Precision | None,
    failed: Mapping[str, EngineError],
    bundle: BundleSource | None,
    scratch: Path,
    progress: Progress,
) -> EngineRecord:
    """The record of a new engine; docs/engine.schema.json describes the fields.

    ``scratch`` is a folder for the ablated model; ``failed`` has the errors of the GPUs that were left out.

    Raises:
        MixedPrecisionError: kernels compute in other types than the graph.
    """
    report = kernels_of(plan.backend, built, engine)
    mixed = mixed_kernels(report, plan.facts.types)
    if mixed and not settings.allow_mixed:
        raise mixed_error(mixed)
    facts, backend = plan.facts, plan.backend
    kernels = len(report.kernels) or None
    ablated = ablated_kernels(plan, settings, scratch, progress)
    return EngineRecord(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        sha256=sha256_of(engine),
        bytes=engine.stat().st_size,
        backend=BackendRecord(backend.name, backend.version, plan.why),
        gpus=plan.architectures,
        failed={gpu: error.message for gpu, error in failed.items()},
        platform=this_platform(),
        precision=PrecisionAudit(
            str(precision) if precision else None, tuple(sorted(facts.all_types)), report.types, tuple(mixed)
        ),
        options=settings.options,
        profile=plan.profile,
        io=EngineIo(facts.inputs, facts.outputs, dict(facts.io_types)),
        onnx=SourceFile(
            facts.path.name, sha256_of(facts.path), {file.name: sha256_of(file) for file in facts.weight_files}
        ),
        bundle=bundle,
        attention=facts.blocks,
        cost=EngineCost(kernels, ablated, tuple(block_costs(report, facts))),
        kernels=report,
        build=BuildRecord(round(built.seconds, 3), built.peak_bytes),
        not_run=why_not_here(plan.architectures, settings.options.hardware_compatible, gpus.found()),
        environment=describe(),
    )


def kernels_of(backend: Backend, built: Built, engine: Path) -> KernelReport:
    """The kernels, from the build log or from the loaded engine."""
    if backend.is_rtx:
        return read_log(built.log)
    logger = built.log.logger(backend.trt)
    with uncollected():
        runtime = backend.trt.Runtime(logger)
    loaded = runtime.deserialize_cuda_engine(engine.read_bytes())
    if loaded is None:
        return read_inspector("{}")
    inspector = loaded.create_engine_inspector()
    return read_inspector(inspector.get_engine_information(backend.trt.LayerInformationFormat.JSON))


def mixed_error(mixed: Sequence[MixedKernel]) -> MixedPrecisionError:
    """The error for an engine with these kernels."""
    count = len(mixed)
    shown = "".join(f"\n  {kernel}" for kernel in mixed[:SHOWN_KERNELS]) + ("\n  …" if count > SHOWN_KERNELS else "")
    return MixedPrecisionError(
        f"{count} kernel{'s compute' if count > 1 else ' computes'} in another type than the graph:{shown}",
        hint="No engine was written. --allow-mixed accepts it and records the kernels.",
    )
