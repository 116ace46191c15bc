"""Builds engines and deployment bundles from an ONNX file without a checkpoint."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from attn_export.exporter.artifacts import ONNX_ENDING, Precision
from attn_export.exporter.engine.settings import EngineSettings
from attn_export.exporter.errors import UsageError
from attn_export.exporter.graph.write import external_data_of
from attn_export.exporter.records.results import BuildResult, Deployed, Retyped
from attn_export.exporter.system.bounds import bounded_work
from attn_export.exporter.system.files import total_bytes
from attn_export.exporter.system.machine import usable_cpus
from attn_export.exporter.system.progress import NullProgress, Progress
from attn_export.exporter.system.scratch import scratch_folder
from attn_export.exporter.workflows.convert import in_precision
from attn_export.exporter.workflows.deploy import Deployment, check_settings, deploy, targets_of
from attn_export.exporter.workflows.golden import judge_engine
from attn_export.exporter.workflows.publish import publish_all

if TYPE_CHECKING:
    from attn_export.exporter.bundle.golden import GoldenVectors


def build_all(
    source: Path | str,
    out: Path | str | None = None,
    *,
    precisions: Sequence[Precision] | None = None,
    settings: EngineSettings | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> BuildResult:
    """Build engines: ``build_all("model.onnx", precisions=[Precision.FP16], settings=…)``.

    Args:
        out: path of the engine, for a single precision; by default beside the file.
        precisions: of the engines; a file ``<stem>.<precision>.onnx`` is written for each that isn't the source's. None
            keeps the types of the source.
        threads: of ONNX Runtime, for comparisons with the source.

    Raises:
        UsageError: options contradict each other or the file.
        DisagreementError: a converted file or an engine computes something else.
        AttnExportError: as `engine.job.build_graph` says. No file is left behind.
    """
    source, out = Path(source), None if out is None else Path(out)
    progress, settings, threads = progress or NullProgress(), settings or EngineSettings(), threads or usable_cpus()
    asked: Sequence[Precision | None] = precisions or (None,)
    if out is not None:
        _refuse_name(out, source, asked, wants_engine=targets_of(settings).wants_engine)
    check_settings(settings, asked, progress)
    from attn_export.exporter.engine.graph import read_source

    with progress.stage("Reading the graph"):
        read = read_source(source)
    if not read.cleaned:
        progress.note(f"{source.name} is built as it is; `attn-export clean --for tensorrt` before may save kernels")
    folder = (out or source).parent
    retyped: list[Retyped] = []
    deployed: list[Deployed] = []
    with scratch_folder(folder) as scratch:
        for precision in asked:
            facts, change = in_precision(read, precision, folder, scratch, settings, threads=threads, progress=progress)
            retyped += [change] if change else []
            suffix = precision.suffix if precision is Precision.TF32 else ""  # its file is the float32 one
            job = Deployment(facts, scratch, f"{(out or facts.path).stem}{suffix}", settings, precision)
            deployed.append(_deploy(job, threads, progress))
        published = publish_all([change.path for change in retyped], deployed, folder, scratch, engine_path=out)
    changes = tuple(Retyped(folder / change.path.name, change.kept, change.verdict) for change in retyped)
    return BuildResult(changes, published.engines, published.bundles)


def _refuse_name(out: Path, source: Path, asked: Sequence[Precision | None], *, wants_engine: bool) -> None:
    """Refuse a name for an engine that isn't the only result, or that would replace a file that it is made from."""
    if len(asked) > 1:
        raise UsageError("-o names one engine, and several precisions were asked for", hint="Leave -o out.")
    if not wants_engine:
        raise UsageError("-o names an engine, and for this GPU a deployment bundle is written", hint="Leave -o out.")
    converted = [
        out.parent / f"{source.stem}{precision.suffix}{ONNX_ENDING}"
        for precision in asked
        if precision not in (None, Precision.FP32, Precision.TF32)
    ]
    if out.resolve() in [path.resolve() for path in (source, external_data_of(source), *converted)]:
        raise UsageError(f"the engine would overwrite {out}", hint="Give it another name with -o.")


def _deploy(job: Deployment, threads: int, progress: Progress) -> Deployed:
    """Build an engine and bundles; golden outputs of the ONNX file are in the bundles and validate the engine."""
    facts = job.facts

    @cache
    def golden() -> "GoldenVectors":
        from attn_export.exporter.validation.golden import golden_of_file

        with progress.stage("Running the ONNX file"), bounded_work(total_bytes(facts.path, *facts.weight_files)):
            return golden_of_file(facts, job.profile, threads)

    return deploy(job, lambda engine: judge_engine(engine.path, golden(), job.profile, progress), golden, progress)
