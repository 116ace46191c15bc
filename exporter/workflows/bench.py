"""Times artifacts of any origin against each other, and what attention costs in them. Compares no results."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from attn_export.exporter.artifacts import ONNX_ENDING, Input, LoadedModel
from attn_export.exporter.budgets.parse import refuse_untimed
from attn_export.exporter.errors import UsageError
from attn_export.exporter.latency.interleaved import TimingSettings, time_interleaved
from attn_export.exporter.records.budget import Budget
from attn_export.exporter.records.latency import joined
from attn_export.exporter.records.results import Benched, ReportAssets
from attn_export.exporter.runtimes import RUNS_ENGINES
from attn_export.exporter.system.files import paths_of
from attn_export.exporter.system.progress import NullProgress, Progress
from attn_export.exporter.workflows.assets import costs_of, show
from attn_export.exporter.workflows.bench_inputs import read_inputs
from attn_export.exporter.workflows.settings import BenchSettings, runtime_settings
from attn_export.exporter.workflows.timing import DEFAULT_FOR_FILES, DEFAULT_FOR_MODULE, candidates_of


def bench(
    model: LoadedModel | Path | str | None,
    paths: Path | str | Sequence[Path | str] = (),
    *,
    inputs: Sequence[Input] = (),
    settings: BenchSettings | None = None,
    trust: bool = False,
    progress: Progress | None = None,
) -> Benched:
    """Time a network and artifacts against each other. Whether they compute the same is for `validate_artifacts`.

    Args:
        model: the network, or the path of its checkpoint, timed first as the baseline; None times artifacts
            alone.
        paths: one or several ONNX files, and engines with their sidecars.
        inputs: for files with dynamic sizes, or a live module; default: the network's.
        trust: accept engines that were changed after they were built.

    Raises:
        UsageError: nothing is named, an artifact is named twice, or settings contradict each other.
        InputError: an artifact can't be read, or doesn't take the timed images.
        RuntimeUnavailableError: a runtime isn't available, or there is no GPU for an engine.
    """
    settings, progress = settings or BenchSettings(), progress or NullProgress()
    files = paths_of(paths)
    if model is not None:
        from attn_export.exporter.checkpoint.load import model_of

        model = model_of(model, () if isinstance(model, LoadedModel) else inputs)
    if len({path.resolve() for path in files}) < len(files):
        raise UsageError("an artifact was named twice", hint="Name each once.")
    if model is None and not files:
        raise UsageError("nothing was named that can be timed", hint="attn-export bench model.pt model.onnx")
    default = (*(DEFAULT_FOR_MODULE if model else ()), *DEFAULT_FOR_FILES)
    threads = settings.threads or len(settings.cpus or ()) or None
    own = runtime_settings(settings.runtimes or default, threads, settings.device)
    wanted = model.inputs if model else inputs
    with progress.stage("Reading the artifacts"):
        found, batches = read_inputs(files, settings.batches, wanted, trust=trust)
    for artifact in (entry.artifact for entry in found):
        if model is not None and artifact.source_sha256 not in ("", model.sha256):
            progress.note(f"{artifact.path} was made of another checkpoint than {model.path}")
    timing = TimingSettings(settings.schedule, own.threads, settings.cpus, settings.isolate)
    timed = wanted or found[0].signature.inputs
    names = tuple(dict.fromkeys(settings.runtimes))
    latencies = []
    for batch in batches:
        candidates = candidates_of(model, found, batch, names, own, trust=trust)
        latencies.append(time_interleaved(candidates, [i.with_batch(batch) for i in timed], timing, progress))
    onnx = tuple(entry.file for entry in found if entry.file is not None)
    assets = show(model, onnx, own, progress) if settings.show else ReportAssets()
    if settings.cost:
        with timing.pin():
            costs = costs_of(found, batches[0], own, settings.schedule, progress)
        assets = replace(assets, costs=costs)
    artifacts, called = tuple(entry.artifact for entry in found), tuple(entry.name for entry in found)
    return Benched(model, artifacts, called, onnx, joined(latencies), assets)


def refuse_budgets(budgets: Sequence[Budget], settings: BenchSettings, *, module: bool, files: Sequence[Path]) -> None:
    """Refuse budgets for what a bench doesn't measure, before it begins. Raises UsageError: there is one."""
    for budget in budgets:
        if not budget.metric.timed:
            raise UsageError(
                f"--budget {budget.text}: a bench compares no results",
                hint=f"An export does: attn-export model.pt --onnx --budget {budget.text}",
            )
    engines = any(path.suffix.lower() != ONNX_ENDING for path in files)
    default = (*(DEFAULT_FOR_MODULE if module else ()), *(DEFAULT_FOR_FILES if files else ()))
    refuse_untimed(budgets, (*(settings.runtimes or default), *(RUNS_ENGINES if engines else ())))
