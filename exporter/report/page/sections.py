"""The sections of the page: what stands in each, and whether it is open."""

from collections.abc import Callable, Sequence

from attn_export.exporter.records.graphs import GraphOutlines
from attn_export.exporter.records.latency import Timing
from attn_export.exporter.records.quantization import Quantization
from attn_export.exporter.records.report import Report
from attn_export.exporter.records.verdict import Verdict
from attn_export.exporter.report.charts import errors as error_chart
from attn_export.exporter.report.charts.block_cost import block_cost
from attn_export.exporter.report.charts.distributions import distributions
from attn_export.exporter.report.charts.speed import speeds
from attn_export.exporter.report.findings import (
    accuracy,
    attention,
    budgets,
    conditions,
    engines,
    environment,
    errors,
    gates,
    graphs,
    latency,
    precision,
    quantization,
)
from attn_export.exporter.report.findings.table import BAD
from attn_export.exporter.report.findings.words import counted
from attn_export.exporter.report.page.section import (
    Beside,
    Cards,
    Command,
    Flips,
    Fold,
    Heading,
    Items,
    Part,
    Sample,
    Section,
)

REFERENCE = (
    "The reference is the network in float64. The baseline is the error that PyTorch itself makes on the same images, "
    "in the artifact's precision; a ratio of 1 is as good as PyTorch. Gates are compared before their sigmoid, where "
    "faults aren't damped."
)
GATES = (
    "The values of every gate on one image, in PyTorch and in each artifact. Dark is 0, bright is 1. A channel gate "
    "has a cell for each channel, a spatial gate one for each position."
)
FLIPS = (
    "These are answered otherwise than in PyTorch, those first that PyTorch is surest of. Each shows its label, and "
    "what was answered."
)


def gates_section(report: Report) -> Section:
    """The sample image, each gate as a heat map in PyTorch and in each artifact, and how open every gate is."""
    blocks, unavailable = gates.gated_blocks(report), gates.unavailable(report)
    if not blocks and not unavailable:
        return Section("gates", "Gate activations", "Gates", absent="No gate activations were captured.")
    first, others = gates.shown_at_once(blocks)
    missing = tuple(f"Gates of {name} are not available: {reason}." for name, reason in unavailable.items())
    sentences = (*gates.difference_sentences(report), *([GATES] if first else []), *missing)
    parts = (
        Sample(gates.image_of(report), sentences),
        Cards(tuple(first)) if first else None,
        Fold(f"The other {len(others)} blocks", (Cards(tuple(others)),)) if others else None,
        Fold("Spread of each gate", (gates.spread_table(report),)) if blocks else None,
    )
    return Section("gates", "Gate activations", "Gates", parts)


def graph_section(report: Report) -> Section:
    """Counts of each graph's nodes: by kind of block, by operator, and in one block of each kind."""
    found = graphs.graphs_of(report)
    title = "The graph, before and after" if any(graph.before for graph in found) else "The graph"
    if not found:
        return Section("graph", title, "Graph", absent="The report contains no outline of the graph.")
    # The other graphs differ by casts.
    others = tuple(part for graph in found[1:] for part in (Heading(graph.artifact), *_graph(graph)))
    fold = Fold(f"The graph of {found[1].artifact}" if len(found) == 2 else "The other graphs", others)
    return Section("graph", title, "Graph", (*_graph(found[0]), fold if others else None))


def _graph(graph: GraphOutlines) -> list[Part]:
    blocks = graphs.block_tables(graph)
    return [
        Items((graphs.graph_sentence(graph),)),
        graphs.kind_table(graph),
        Fold("Nodes by operator", (Beside((*blocks, graphs.operator_table(graph))),)),
    ]


def latency_section(report: Report) -> Section:
    """Tables and charts for each batch size, the conditions, and warnings about the timing."""
    timed = report.latency
    if not timed.timings:
        return Section("latency", "Latency", "Latency", absent="Nothing was timed.")
    confidence, batches = latency.confidence_of(timed), latency.by_batch(timed)
    (size, timings), *others = batches.items()
    heading = Heading(f"Batch {size}") if others else None
    parts: list[Part] = [Items(tuple(conditions.warning_sentences(timed)), caution=True), heading]
    parts += _batch(size, timings, confidence)
    parts.append(latency.throughput_table(timed))
    for size, timings in others:
        parts.append(Fold(f"Batch {size}", tuple(_batch(size, timings, confidence))))
    about = (*conditions.condition_sentences(timed), conditions.run_table(timed), conditions.gpu_table(timed))
    parts.append(
        Fold("Conditions, runtimes and warm-up", (*about, *(latency.runtime_table(t) for t in batches.values())))
    )
    return Section("latency", "Latency", "Latency", tuple(parts))


def _batch(size: int, timings: Sequence[Timing], confidence: str) -> list[Part]:
    labels = latency.labels_of(timings)
    others = list(zip(timings, labels, strict=True))[1:]
    charts = speeds(f"speed-{size}", timings, labels, confidence), distributions(f"times-{size}", timings, labels)
    return [
        Items(tuple(latency.speed_sentence(t, label, labels[0]) for t, label in others)),
        latency.latency_table(timings, confidence),
        Beside(charts),
    ]


def attention_section(report: Report) -> Section:
    """The cost of attention with a chart for each measurement, the inventory, and kernels of engines."""
    title = "Attention and its cost"
    inventories, costs = attention.inventories_of(report), report.attention_cost
    if not any(blocks for _, blocks in inventories) and not costs and not report.engines:
        reason = "recognised" if inventories else "looked for: the report has no graph"
        return Section("attention", title, "Attention", absent=f"No attention blocks were {reason}.")
    unmeasured = [f"{attention.blocks_words(blocks)}; the cost was not measured." for _, blocks in inventories[:1]]
    charts = [chart for index, cost in enumerate(costs) if (chart := block_cost(f"cost-{index}", cost))]
    tables = [
        attention.inventory_table(names, blocks, attention.cost_for(report, names), graphs.graph_for(report, names))
        for names, blocks in inventories
        if blocks
    ]
    parts: list[Part] = [
        Items(tuple(attention.cost_sentence(cost) for cost in costs) or tuple(unmeasured)),
        *charts[:1],
    ]
    parts += [Fold("The other artifacts", tuple(charts[1:]))] if charts[1:] else []
    parts += [Fold(table.caption, (table,), open=not charts) for table in tables]
    if report.engines:
        parts += [Heading("In engines"), engines.engines_table(report.engines)]
        for engine in report.engines:
            parts.append(engines.kernels_sentence(engine.path, engine.cost))
            kernels = engines.kernels_table(engine.path, engine.cost)
            parts.append(Fold(kernels.caption, (kernels, f"{engines.SHARED}.")) if kernels.rows else None)
    return Section("attention", title, "Attention", tuple(parts))


def error_section(report: Report) -> Section:
    """A table over all artifacts, the error ratios of all tensors, and what the precision does to them."""
    title = "Error against PyTorch"
    if not errors.was_requested(report):
        absent = "Nothing was compared with PyTorch; attn-export validate does it."
        return Section("error", title, "Error", absent=absent)
    judged = errors.judged(report)
    verdict, basis, mark = errors.verdict_words(report)
    sensitivity = precision.sensitivity_table(report)
    parts = (
        precision.side_by_side(report),
        Items(tuple(precision.advice(report)), caution=True),
        REFERENCE,
        errors.artifact_table(report),
        error_chart.errors("errors", {artifact.path: verdict for artifact, verdict in judged}),
        *(_judged(artifact, verdict) for artifact, verdict in judged),
        Fold(sensitivity.caption, (sensitivity,)) if sensitivity else None,
        *(_quantization(file.path, file.quantization) for file in report.onnx_files if file.quantization),
    )
    brief = f"{verdict}: {basis}"
    return Section("error", title, "Error", parts, brief, open=mark == BAD, first=mark == BAD)


def _quantization(path: str, record: Quantization) -> Fold:
    tables = [made for made in (quantization.steps_table(record), quantization.layers_table(record)) if made.rows]
    return Fold(f"How {path} was quantized", (f"{quantization.summary(record)}.", *tables))


def _judged(artifact: errors.Runnable, verdict: Verdict) -> Fold:
    """Folded where the artifact agrees."""
    comparisons, path = verdict.comparisons, artifact.path
    nearest = sorted(comparisons, key=lambda c: -c.severity)[: errors.WORST]
    worst = errors.comparison_table(nearest, f"Nearest to the limit in {path}")
    caption = f"All tensors of {path}, in the order of computation"
    everything = errors.comparison_table(comparisons, caption, errors.shapes_of(comparisons))
    parts: tuple[Part, ...] = (Items(tuple(errors.artifact_sentences(artifact, verdict))),)
    parts += (everything,) if artifact.agrees else (worst, Fold(f"All {len(comparisons)} tensors", (everything,)))
    return Fold(f"{path} {'agrees' if artifact.agrees else 'DISAGREES'}", parts, open=not artifact.agrees)


def accuracy_section(report: Report) -> Section:
    """Accuracy side by side, and the pictures that are answered otherwise than in PyTorch."""
    title, evaluation = "Accuracy", report.evaluation
    verdict = accuracy.verdict_words(evaluation)
    if evaluation is None or verdict is None:
        return Section("accuracy", title, title, absent="No labelled images were given (--eval).")
    words, basis, mark = verdict
    flips, matched = accuracy.flips_table(evaluation, len(evaluation.flips)), f"matched {evaluation.matched}"
    parts = (
        accuracy.accuracy_table(evaluation),
        FLIPS if evaluation.flips else None,
        Flips(evaluation.flips) if evaluation.flips else None,
        Fold(flips.caption, (flips,)) if evaluation.flips else None,
        Fold("The images", (Items((*evaluation.source.sentences, f"{evaluation.classes} classes, {matched}.")),)),
    )
    return Section("accuracy", title, title, parts, f"{words}: {basis}", first=mark == BAD)


def budgets_section(report: Report) -> Section:
    """One table, folded where all budgets are kept."""
    if not (words := budgets.verdict_words(report.budgets)):
        return Section("budgets", "Budgets", "Budgets", absent="No budget was set.")
    verdict, basis, mark = words
    parts = (budgets.budget_table(report.budgets),)
    return Section("budgets", "Budgets", "Budgets", parts, f"{verdict}: {basis}", open=mark == BAD, first=mark == BAD)


def environment_section(report: Report) -> Section:
    """The command line, files with hashes, the machine, versions."""
    command = environment.command_line(report)
    parts = (
        "With the packages below, on a machine like this one:" if command else "It was made by a call from Python.",
        Command(command) if command else None,
        *environment.notes_of(report),
        environment.file_table(report),
        *(
            Fold(f"{kept.caption}: {counted(len(kept.rows), 'node')}", (kept,))
            for kept in (precision.kept_table(a.kept_in_float32, a.path) for a in report.onnx_files)
            if kept.rows
        ),
        Beside((environment.machine_table(report), environment.package_table(report))),
    )
    title = "Environment, and how to reproduce this"
    return Section("environment", title, "Environment", parts, report.environment.cpu, open=False)


SECTIONS: tuple[Callable[[Report], Section], ...] = (
    gates_section,
    graph_section,
    latency_section,
    attention_section,
    error_section,
    accuracy_section,
    budgets_section,
    environment_section,
)
