"""GitHub-flavoured Markdown, short enough for a comment on a pull request."""

import re
from collections.abc import Sequence

from attn_export.exporter.records.compare import ComparisonReport
from attn_export.exporter.records.latency import Latency
from attn_export.exporter.records.report import Report
from attn_export.exporter.report.findings import (
    accuracy,
    attention,
    budgets,
    comparison,
    conditions,
    errors,
    latency,
    precision,
)
from attn_export.exporter.report.findings.environment import command_line, network_words, title_of
from attn_export.exporter.report.findings.summary import badges
from attn_export.exporter.report.findings.table import BAD, GOOD, UNSURE, Cell, Table
from attn_export.exporter.report.findings.words import listed, shown

SIGNS = {GOOD: "✓", BAD: "✗", UNSURE: "?"}
SPECIAL = re.compile(r"([\\`*_{}\[\]>#|~!])")


def render(report: Report) -> str:
    """The findings of a report, without absent parts."""
    parts = [f"## {escaped(title_of(report))}", _request(report), _verdicts(report)]
    if report.budgets:
        parts += ["### Budgets", table_text(budgets.budget_table(report.budgets))]
    parts += _latency(report.latency)
    if (table := precision.side_by_side(report)) is not None:
        parts += [f"### {escaped(table.caption)}", table_text(table), _items(precision.advice(report))]
    if errors.judged(report):
        failed = [artifact.error.message for artifact in report.runnable if artifact.error]
        parts += ["### Error against PyTorch", table_text(errors.artifact_table(report)), _items(failed)]
    if report.evaluation:
        parts += ["### Accuracy", table_text(accuracy.accuracy_table(report.evaluation))]
        parts += [table_text(accuracy.flips_table(report.evaluation)) if report.evaluation.flips else ""]
    if report.attention_cost:
        parts += ["### Attention", _items([attention.cost_sentence(cost) for cost in report.attention_cost])]
    parts.append(_environment(report))
    return "\n\n".join(part for part in parts if part) + "\n"


def render_comparison(report: ComparisonReport) -> str:
    """The comparison of two reports."""
    title = f"### {'Too slow' if report.error else 'Latency'}: {escaped(report.new.model or report.new.path)}"
    parts = [title, f"**{escaped(report.error.message)}**" if report.error else ""]
    parts += [table_text(comparison.pair_table(report)), escaped(comparison.caption(report))]
    parts += [table_text(budgets.budget_table(report.budgets)) if report.budgets else "", _items(report.notes)]
    return "\n\n".join(part for part in parts if part) + "\n"


def escaped(text: object) -> str:
    """Literal text, in a table too; as entities, so that readers that don't know all of Markdown see no tag either."""
    return SPECIAL.sub(r"\\\1", shown(text).replace("&", "&amp;").replace("<", "&lt;"))


def table_text(data: Table) -> str:
    """A table: words to the left, numbers to the right."""
    heads = [escaped(column.title) for column in data.columns]
    rules = [":--" if column.words else "--:" for column in data.columns]
    rows = [[_cell(cell) for cell in row] for row in data.rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, rules, *rows])


def _cell(cell: Cell) -> str:
    text = f"{_sign(cell.mark)}{escaped(cell.text)}"
    return f"**{text}**" if cell.mark == BAD and cell.text else text


def _sign(mark: str) -> str:
    return f"{SIGNS[mark]} " if mark in SIGNS else ""


def _items(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {escaped(sentence)}" for sentence in sentences)


def _request(report: Report) -> str:
    network, command = network_words(report), command_line(report)
    spelled = f"`{shown(command)}`" if command and not set(command) & set("`<") else escaped(command)
    return "  \n".join(filter(None, (escaped(network), spelled)))


def _verdicts(report: Report) -> str:
    return "\n".join(
        f"- {escaped(badge.about)}: **{_sign(badge.mark)}{escaped(badge.verdict)}**. {escaped(badge.basis)}"
        for badge in badges(report)
    )


def _latency(timed: Latency) -> list[str]:
    if not timed.timings:
        return []
    warnings = [f"> - {escaped(warning)}" for warning in conditions.warning_sentences(timed)]
    confidence = latency.confidence_of(timed)
    tables = [latency.latency_table(timings, confidence) for timings in latency.by_batch(timed).values()]
    return ["### Latency", "\n".join(warnings), *(f"{escaped(t.caption)}:\n\n{table_text(t)}" for t in tables)]


def _environment(report: Report) -> str:
    environment = report.environment
    versions = [f"{name} {version}" for name, version in environment.packages.items() if version]
    known = listed([word for word in (environment.cpu, environment.platform, *versions) if word])
    return f"<sub>{escaped(f'Created {report.created} on {known}.')}</sub>"
