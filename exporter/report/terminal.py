"""The tables and captions that each command prints."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from attn_export.exporter.artifacts import AttentionBlock
from attn_export.exporter.records.accuracy import Evaluation
from attn_export.exporter.records.attention import AttentionCost
from attn_export.exporter.records.compare import ComparisonReport
from attn_export.exporter.records.engine import EngineFile
from attn_export.exporter.records.latency import Latency
from attn_export.exporter.records.prediction import PredictionSummary
from attn_export.exporter.records.quantization import Quantization
from attn_export.exporter.records.report import ArtifactRecord, BundleRecord, EngineSummary, Report
from attn_export.exporter.records.results import BuildResult, CleanResult, Retyped
from attn_export.exporter.records.summaries import (
    BundleValidation,
    PackageSummary,
    ValidatedArtifact,
    ValidationSummary,
    VerifySummary,
)
from attn_export.exporter.records.verdict import Verdict
from attn_export.exporter.report.findings import (
    accuracy,
    attention,
    budgets,
    comparison,
    engines,
    errors,
    graphs,
    latency,
    machine,
    precision,
    prediction,
    quantization,
)
from attn_export.exporter.report.findings.environment import cpus_words
from attn_export.exporter.report.findings.table import UNSURE, Cell, Table, table
from attn_export.exporter.report.findings.words import error, percent, shape, shapes, size
from attn_export.exporter.report.tables import rendered

if TYPE_CHECKING:
    from attn_export.models.complexity import NetworkSize
from attn_export.exporter.system.survey import Survey

MOST_EXPENSIVE = 5
Part = Table | Text


def drawn(parts: Iterable[Part]) -> list[RenderableType]:
    """The parts for a terminal, with an empty line before each table that has a caption."""
    lines: list[RenderableType] = []
    for part in parts:
        if isinstance(part, Table):
            lines += ["", rendered(part)] if lines and part.caption else [rendered(part)]
        elif part:
            lines.append(part)
    return lines


def export_parts(report: Report) -> list[Part]:
    """`export`: errors, engines, latencies, cost of attention, budgets."""
    parts: list[Part] = []
    if report.onnx_files:
        parts += [errors.worst_table(report.onnx_files), Text(errors.baseline_words(report.onnx_files), "dim")]
    if report.engines:
        parts.append(engines.engines_table(report.engines))
        parts += [
            Text.assemble((f"{engine.path} is not for {gpu}", "yellow"), f": {reason}")
            for engine in report.engines
            for gpu, reason in engine.failed.items()
        ]
    parts += [*accuracy_parts(report.evaluation), *bench_parts(report)]
    parts += [found] if (found := precision.side_by_side(report)) else []
    return [*parts, *(Text(sentence, "yellow") for sentence in precision.advice(report))]


def bench_parts(report: Report) -> list[Part]:
    """`bench`: latencies, cost of attention, budgets."""
    parts: list[Part] = []
    if report.latency.timings:
        confidence = latency.confidence_of(report.latency)
        parts += [latency.latency_table(t, confidence) for t in latency.by_batch(report.latency).values()]
        parts.append(Text(latency_caption(report), "dim"))
    for cost in report.attention_cost:
        parts += attention_parts(cost)
    return [*parts, *([budgets.budget_table(report.budgets)] if report.budgets else [])]


def attention_parts(cost: AttentionCost) -> list[Part]:
    """The cost of attention in one file: kinds, a sentence, the most expensive blocks."""
    parts: list[Part] = [attention.kinds_table(cost)] if cost.blocks else []
    parts.append(Text(attention.cost_sentence(cost), "yellow" if cost.missed else ""))
    return [*parts, *([attention.blocks_table(cost, MOST_EXPENSIVE)] if len(cost.blocks) > 1 else [])]


def latency_caption(report: Report) -> str:
    """The conditions of the latencies."""
    timed: Latency = report.latency
    runs = "; ".join(f"batch {run.batch}: {run.rounds} rounds of {run.inferences} inferences" for run in timed.runs)
    warm_up = [timing.warm_up.inferences for timing in timed.timings]
    span = str(warm_up[0]) if len(set(warm_up)) == 1 else f"{min(warm_up)} to {max(warm_up)}"
    gpus = dict.fromkeys(gpu.name for gpu in report.environment.gpus)
    devices = dict.fromkeys(filter(None, map(latency.devices_compared, timed.timings)))
    note = f"\n{', '.join(devices)}: these ratios compare devices, not artifacts" if devices else ""
    return (
        f"{runs}; in random order, after {span} warm-up inferences; {percent(timed.schedule.confidence)} intervals; "
        f"threads: {timed.threads}, {cpus_words(timed.cpus)}; {', '.join([report.environment.cpu, *gpus])}{note}"
    )


def export_summary(report: Report, folder: Path, reports: Sequence[Path]) -> Text:
    """Paths of the results."""
    summary = Text("\n")
    for artifact in report.artifacts:
        summary.append(str(folder / artifact.path), "bold").append(f"  {artifact_words(artifact)}\n")
    for path in reports:
        summary.append(str(path), "bold").append("\n")
    return summary


def artifact_words(artifact: ArtifactRecord) -> str:
    """Half a line about a file."""
    if isinstance(artifact, EngineSummary):
        return f"{artifact.backend.name} {artifact.backend.version}, {size(artifact.bytes)}"
    if isinstance(artifact, BundleRecord):
        return f"to be built on the device: attn-export build {artifact.path}"
    steps, kept = artifact.cleanup, artifact.kept_in_float32
    nodes = f"{artifact.nodes} nodes" + (f", {steps[0].nodes_before} as captured" if steps else "")
    text = f"opset {artifact.opset}, {nodes}, {artifact.precision}"
    return text + (f" ({len(kept)} nodes kept in float32)" if kept else "")


def accuracy_parts(evaluation: Evaluation | None) -> list[Part]:
    """`--eval`: accuracy side by side, and the images that are answered otherwise."""
    if evaluation is None:
        return []
    flips = [accuracy.flips_table(evaluation)] if evaluation.flips else []
    return [accuracy.accuracy_table(evaluation), Text(accuracy.flips_sentence(evaluation), "dim"), *flips]


def prediction_parts(summary: PredictionSummary) -> list[Part]:
    """`predict`: the likeliest classes of each image."""
    tables = prediction.prediction_tables(summary).items()
    return [
        *(part for name, made in tables for part in (Text(name, "bold"), made)),
        Text(prediction.differences(summary), "dim"),
    ]


def validation_parts(summary: ValidationSummary) -> list[Part]:
    """`validate` against a checkpoint."""
    heads = f"artifact,<precision,{errors.RATIO_HEADS},<verdict"
    rows = [_validation_row(artifact) for artifact in summary.artifacts]
    verdicts = [artifact.validation for artifact in summary.artifacts if artifact.validation]
    batches = dict.fromkeys(shapes(batch) for verdict in verdicts for batch in verdict.batches)
    caption = "error ratio: error / baseline error of PyTorch, or of the graph itself where it is quantized"
    return [
        table(f"Against {summary.model.name} in float64", heads.split(","), rows),
        Text(f"{caption}; batches of {', '.join(batches)}" if batches else "nothing could be run", "dim"),
        *(
            Text(f"{Path(artifact.path).name}: {errors.quality_sentence(artifact.quantized)}")
            for artifact in summary.artifacts
            if artifact.quantized
        ),
        *accuracy_parts(summary.evaluation),
    ]


def _validation_row(artifact: ValidatedArtifact) -> list[str | Cell]:
    name, verdict = Path(artifact.path).name, artifact.validation
    if verdict is None:
        return [name, artifact.precision or "", *[""] * 7, Cell("not judged", UNSURE)]
    return [name, artifact.precision or "", *errors.ratio_cells(verdict), errors.verdict_cell(bool(artifact.agrees))]


def bundle_parts(validation: BundleValidation) -> list[Part]:
    """`validate` against a deployment bundle."""
    verdict: Verdict = validation.validation
    caption = f"{verdict.runtime}; batches of {', '.join(map(shapes, verdict.batches))}; baseline: {verdict.baseline}"
    comparisons = errors.comparison_table(verdict.comparisons, f"Against {verdict.reference}")
    return [comparisons, Text(caption, "dim")]


def clean_parts(result: CleanResult, *, explain: bool) -> list[Part]:
    """`clean`: rewrites, the inventory, and the comparison with the source graph."""
    cleaned, worst = result.cleaned, result.verdict.worst if result.verdict else None
    verdict = f"the graph as a whole was not compared with its source: {result.not_compared}"
    if worst is not None:
        verdict = f"error against the source graph {error(worst.error)}, baseline error {error(worst.baseline)}"
    counts = f"{result.nodes_before} → {result.nodes_after} nodes, {len(cleaned.applied)} rewrites, all proven"
    rewrites = graphs.rewrite_tables(cleaned) if explain else []
    none = [Text("No rule fired.")] if explain and not cleaned.applied else []
    summary = Text.assemble("\n", (str(result.path), "bold"), f"  {counts}; {verdict}\n")
    return [*none, *rewrites, *inventory_parts(result.path, cleaned.blocks), summary]


def quantize_parts(record: Quantization, path: Path) -> list[Part]:
    """`quantize`: the quality, and the layers that lose most."""
    summary = Text.assemble("\n", (str(path), "bold"), f"  {quantization.summary(record)}\n")
    tables = [quantization.steps_table(record), quantization.quality_table(record), quantization.layers_table(record)]
    alone = [quantization.sensitivity_rows(record.sensitivity, kind)[0] for kind in ("layer", "block")]
    return [*tables, *[table for table in alone if table.rows], summary]


def package_parts(result: PackageSummary) -> list[Part]:
    """`package`: what was written, and where."""
    lines = [(model, "model for Triton") for model in result.models]
    lines += [(result.device, "device folder")] if result.device else []
    files = table("", ["file", "size"], [[path, size(count)] for path, count in result.files.items()])
    return [files, *(Text.assemble((path, "bold"), f"  {what}\n") for path, what in lines)]


def verify_parts(result: VerifySummary) -> list[Part]:
    """`verify`: what was compared, and what wasn't."""
    unsigned = "it isn't signed: whoever can change the files can change their digests"
    unverified = "the signature was not verified: no --key"
    words = "the signature is the key's" if result.verified else unverified if result.signed else unsigned
    return [Text.assemble((result.folder, "bold"), f"  {result.files} files as they were packaged; {words}\n")]


def inventory_parts(path: Path, blocks: Sequence[AttentionBlock]) -> list[Part]:
    """`inspect` of an ONNX file."""
    return [attention.inventory_table([path.name], blocks) if blocks else Text("no attention blocks\n")]


def engine_parts(engine: EngineFile) -> list[Part]:
    """`inspect` of an engine."""
    path, record = str(engine.path), engine.record
    parts: list[Part] = [engines.facts_table(path, record)]
    if record.cost.blocks:
        parts.append(engines.kernels_table(engine.path.name, record.cost))
        parts.append(Text(engines.kernels_sentence(engine.path.name, record.cost), "bold"))
        parts.append(Text(engines.SHARED, "dim"))
    return parts


def build_parts(result: BuildResult) -> list[Part]:
    """`build`: converted files, engines, bundles."""
    parts: list[Part] = []
    for change in result.retyped:
        parts += [
            conversion_words(change),
            *([precision.kept_table(change.kept, change.path.name)] if change.kept else []),
        ]
    for engine in result.engines:
        parts += engine_parts(engine)
    for bundle in result.bundles:
        parts.append(Text.assemble("\n", (str(bundle), "bold"), f"  on the device: attn-export build {bundle.name}"))
    return [*parts, Text("\n")]


def conversion_words(change: Retyped) -> Text:
    """The comparison of a converted file with its source."""
    worst = change.verdict.worst
    times = "unknown" if worst.ratio is None else f"{worst.ratio:.1f}"
    words = f"  error against its source {error(worst.error)}: error ratio {times}, limit {worst.limit:.0f}"
    return Text.assemble("\n", (str(change.path), "bold"), words)


def comparison_parts(report: ComparisonReport) -> list[Part]:
    """`compare`: pairs and budgets."""
    title = Text(f"{report.old.path} → {report.new.path}", "bold")
    parts: list[Part] = [title, comparison.pair_table(report), Text(comparison.caption(report), "dim")]
    return [*parts, *([budgets.budget_table(report.budgets)] if report.budgets else [])]


def doctor_parts(survey: Survey) -> list[Part]:
    """`doctor`: the machine, and the commands that install missing parts."""
    commands = [
        Text.assemble(f"{part.name}\n", ("→ ", "bold cyan"), (part.command, "bold"))
        for part in survey.missing
        if part.command
    ]
    return [*machine.doctor_tables(survey), *commands]


def creation_summary(created: Mapping[str, Any]) -> Text:
    """`create`: the new checkpoint and a command for it."""
    path, parameters = created["path"], created["parameters"]
    return Text.assemble(
        (path, "bold"),
        f"  {created['architecture']['name']}, {parameters / 1e6:.2f} M parameters\n",
        (f"next: attn-export {path} --onnx", "dim"),
    )


def models_parts(rows: "Iterable[NetworkSize]") -> list[Part]:
    """`models`: the zoo with sizes, and the share of attention."""
    heads = ["name", "input", "parameters", "MACs", "attention: parameters", "attention: MACs"]
    others = Text("Every backbone also takes eca_, scse_, bam_, coord_, simam_, gct_, triplet_ and ge_.", "dim")
    return [table("Networks", heads, [_network_row(row) for row in rows]), others]


def _network_row(row: "NetworkSize") -> list[str | Cell]:
    shares = ("" if share is None else f"{share:+.2%}" for share in (row.added_parameters, row.added_macs))
    return [row.name, shape(row.input_shape), f"{row.parameters / 1e6:.2f} M", f"{row.macs / 1e6:.1f} M", *shares]
