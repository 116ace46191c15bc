"""Errors of artifacts against PyTorch in float64."""

from collections.abc import Sequence

from attn_export.exporter.records.policies import POLICIES
from attn_export.exporter.records.report import EngineSummary, OnnxRecord, Report
from attn_export.exporter.records.verdict import Comparison, Quality, Verdict
from attn_export.exporter.report.findings.table import BAD, GOOD, PLAIN, QUIET, UNSURE, Cell, Table, table
from attn_export.exporter.report.findings.words import SPACE, counted, error, listed, shapes, times

Runnable = OnnxRecord | EngineSummary
WORST = 8  # rows of the short table
RATIO_HEADS = "<runtime,images,gates,worst gate,worst output,limit,other top-1 class"
NOT_REQUESTED = "validation was not requested"


def judged(report: Report) -> list[tuple[Runnable, Verdict]]:
    """The validated artifacts with their verdicts."""
    return [(artifact, artifact.validation) for artifact in report.runnable if artifact.validation is not None]


def not_judged(report: Report) -> list[tuple[str, str]]:
    """Names of the other artifacts, and the reason for each."""
    return [(a.path, missing_reason(a)) for a in report.runnable if a.validation is None]


def was_requested(report: Report) -> bool:
    """Whether the run validated artifacts, or says why it could not."""
    return bool(judged(report)) or any(reason != NOT_REQUESTED for _, reason in not_judged(report))


def missing_reason(artifact: Runnable) -> str:
    """Why an artifact has no verdict."""
    if artifact.error is not None:
        return artifact.error.message
    return (artifact.not_run if isinstance(artifact, EngineSummary) else None) or NOT_REQUESTED


def worst_of(comparisons: Sequence[Comparison], role: str = "") -> Comparison | None:
    """The comparison (of this role) that is nearest to its limit, or furthest beyond it."""
    chosen = [c for c in comparisons if not role or c.role == role]
    return max(chosen, key=lambda c: c.severity, default=None)


def verdict_cell(agrees: bool) -> Cell:
    """``agrees`` or ``DISAGREES``."""
    return Cell("agrees", GOOD) if agrees else Cell("DISAGREES", BAD)


def artifact_table(report: Report) -> Table:
    """One row for each artifact that can run."""
    heads = f"artifact,<verdict,<precision,{RATIO_HEADS}"
    rows = [_artifact_row(artifact) for artifact in report.runnable]
    return table("Error ratio against PyTorch in float64", heads.split(","), rows)


def _artifact_row(artifact: Runnable) -> list[str | Cell]:
    verdict, precision = artifact.validation, artifact.precision or ""
    if verdict is None:
        return [artifact.path, Cell(f"not compared: {missing_reason(artifact)}", UNSURE), precision, *[""] * 7]
    return [artifact.path, verdict_cell(bool(artifact.agrees)), precision, *ratio_cells(verdict)]


def ratio_cells(verdict: Verdict) -> list[str | Cell]:
    """Runtime, images, number of gates, worst gate, worst output, limit, and changed top-1 classes."""
    gate, output = (worst_of(verdict.comparisons, role) for role in ("gate", "output"))
    worst, classes = output or gate, verdict.classes
    return [
        verdict.runtime,
        str(verdict.images),
        str(sum(c.role == "gate" for c in verdict.comparisons)) if gate else "not captured",
        times(gate.ratio) if gate else "",
        times(output.ratio) if output else "",
        f"{worst.limit:g}×" if worst else "",
        f"{classes.differ} of {classes.images}" if classes else "",
    ]


def comparison_table(comparisons: Sequence[Comparison], caption: str, shapes: Sequence[str] = ()) -> Table:
    """One row for each tensor. At each of the batch shapes the error ratio gets a column."""
    heads = "tensor,<role,<worst input,error,baseline error,error ratio,limit,<verdict".split(",")
    return table(
        caption,
        [*heads, *(f"at {of_shape.replace('x', '×')}" for of_shape in shapes)],
        [
            [
                c.tensor,
                Cell(c.role, QUIET),
                c.kind,
                error(c.error),
                error(c.baseline),
                times(c.ratio),
                f"{c.limit:g}×",
                verdict_cell(c.agrees),
                *(times(c.shapes[of_shape]) if of_shape in c.shapes else "" for of_shape in shapes),
            ]
            for c in comparisons
        ],
    )


def worst_table(artifacts: Sequence[OnnxRecord]) -> Table:
    """For each artifact the worst gate and the worst output, with error and baseline error."""
    rows: list[list[str | Cell]] = []
    for artifact in artifacts:
        comparisons = artifact.validation.comparisons if artifact.validation else ()
        for role in ("gate", "output"):
            worst, chosen = worst_of(comparisons, role), [c for c in comparisons if c.role == role]
            if worst is None:
                continue
            label = counted(len(chosen), role) + (f", worst {worst.tensor}" if len(chosen) > 1 and worst.tensor else "")
            label = f"{artifact.precision}: {label}" if len(artifacts) > 1 else label
            figures = (error(worst.error), error(worst.baseline), times(worst.ratio), f"{worst.limit:g}×")
            rows.append([label, *figures, verdict_cell(all(c.agrees for c in chosen))])
    heads = ["tensor", "error", "baseline error", "error ratio", "limit", "<verdict"]
    return table("Against PyTorch in float64", heads, rows)


def baseline_words(artifacts: Sequence[OnnxRecord]) -> str:
    """How the baseline errors were measured, and the least that counts: small networks are below it."""
    used = {artifact.validation.policy for artifact in artifacts if artifact.validation}
    chosen = [policy for policy in POLICIES.values() if policy.name in used]
    return "; ".join(f"baseline error: {policy.baseline}, at least {error(policy.floor)}" for policy in chosen)


def shapes_of(comparisons: Sequence[Comparison]) -> list[str]:
    """The batch shapes that any tensor has an error ratio for, in their order."""
    return list(dict.fromkeys(name for c in comparisons for name in c.shapes))


def artifact_sentences(artifact: Runnable, verdict: Verdict) -> list[str]:
    """Details of a verdict."""
    batches = listed([shapes(batch) for batch in verdict.batches])
    sentences = [f"{counted(verdict.images, 'image')} in batches of {batches}, in {verdict.runtime}."]
    if verdict.gates_missed:
        sentences.append(f"Gates that were not compared: {verdict.gates_missed}.")
    if classes := verdict.classes:
        differ, images = classes.differ, counted(classes.images, "nominal image")
        verb = "has" if differ <= 1 else "have"
        sentences.append(f"Of {images}, {differ or 'none'} {verb} another top-1 class than in float64.")
    if artifact.first_divergence:
        sentences.append(f"The first divergent layer is {artifact.first_divergence.module_path}.")
    if artifact.quantized:
        sentences.append("It is quantized: the runtime is compared with the artifact's own graph in float64.")
        sentences.append(quality_sentence(artifact.quantized))
    if failed := artifact.error:
        sentences.append(f"{failed.message}. {failed.hint}".strip())
    return sentences


def quality_sentence(quality: Quality) -> str:
    """The quantization quality of an artifact."""
    ratios = [f"{name} {sqnr:.1f}{SPACE}dB" for name, sqnr in quality.sqnr_db.items() if sqnr is not None]
    same = "" if quality.agreement is None else f"; {quality.agreement:.1%} of the classes agree"
    return f"Quantization SQNR over {counted(quality.images, 'image')}: {listed(ratios)}{same}."


def verdict_words(report: Report) -> tuple[str, str, str]:
    """The verdict over all artifacts: two words, a sentence with the basis, and a mark."""
    found, missing = judged(report), not_judged(report)
    left = f" {listed([name for name, _ in missing])} could not be compared." if missing else ""
    if not found:
        return "Not compared", f"No artifact was compared with PyTorch.{left}", UNSURE if missing else PLAIN
    comparisons = [c for _, verdict in found for c in verdict.comparisons]
    worst, near = worst_of(comparisons), ""
    if worst:
        near = f"; the worst error ratio is {times(worst.ratio)}, the limit {worst.limit:g}×"
    tensors = counted(len(comparisons), "tensor")
    if bad := [artifact.path for artifact, _ in found if not artifact.agrees]:
        count = sum(not c.agrees for c in comparisons)
        what = f"{count} of {tensors}{near}" if count else "not the quality that is required"
        return "DISAGREES", f"{listed(bad)}: {what}.{left}", BAD
    return "Agrees", f"{tensors} agree{near}: {listed([artifact.path for artifact, _ in found])}.{left}", GOOD
