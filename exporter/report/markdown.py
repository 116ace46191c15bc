"""The record as Markdown, short enough for a comment on a pull request."""

import re
from typing import Any

from attn_export.exporter.report.findings import attention, budgets, conditions, errors, latency
from attn_export.exporter.report.findings.environment import command_line, network_words, title_of
from attn_export.exporter.report.findings.summary import badges
from attn_export.exporter.report.findings.table import BAD, GOOD, UNSURE, Cell, Table
from attn_export.exporter.report.findings.words import listed, shown

SIGNS = {GOOD: "✓", BAD: "✗", UNSURE: "?"}
SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!])")


def render(record: dict[str, Any]) -> str:
    """The findings as GitHub-flavoured Markdown; what isn't there is left out.

    Args:
        record: as docs/report.md describes it.
    """
    parts = [f"## {escaped(title_of(record))}", _asked(record), _verdicts(record)]
    if budgets.budgets_of(record):
        parts += ["### Budgets", table_text(budgets.budget_table(record))]
    parts += _latency(record)
    if errors.judged(record):
        parts += ["### Error against PyTorch", table_text(errors.artifact_table(record)), _failures(record)]
    if costs := attention.costs_of(record):
        parts += ["### Attention", "\n".join(f"- {escaped(attention.cost_sentence(cost))}" for cost in costs)]
    parts.append(_environment(record))
    return "\n\n".join(part for part in parts if part) + "\n"


def escaped(text: object) -> str:
    """Text that Markdown leaves as it is, in a table too."""
    return SPECIAL.sub(r"\\\1", shown(text).replace("&", "&amp;"))


def table_text(data: Table) -> str:
    """A table in GitHub's form: words to the left, numbers to the right."""
    heads = [escaped(column.title) for column in data.columns]
    rules = [":--" if column.words else "--:" for column in data.columns]
    rows = [[_cell(cell) for cell in row] for row in data.rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, rules, *rows])


def _cell(cell: Cell) -> str:
    text = f"{_sign(cell.mark)}{escaped(cell.text)}"
    return f"**{text}**" if cell.mark == BAD and cell.text else text


def _sign(mark: str) -> str:
    return f"{SIGNS[mark]} " if mark in SIGNS else ""


def _asked(record: dict[str, Any]) -> str:
    network, command = network_words(record), command_line(record)
    spelled = f"`{shown(command)}`" if command and "`" not in command else escaped(command)
    return "  \n".join(filter(None, (escaped(network), spelled)))


def _verdicts(record: dict[str, Any]) -> str:
    return "\n".join(
        f"- {escaped(badge.about)}: **{_sign(badge.mark)}{escaped(badge.verdict)}**. {escaped(badge.basis)}"
        for badge in badges(record)
    )


def _failures(record: dict[str, Any]) -> str:
    """What is wrong with artifacts that don't agree."""
    failed = [artifact["error"] for artifact in errors.artifacts_of(record) if artifact.get("error")]
    return "\n".join(f"- {escaped(error['message'])}" for error in failed)


def _latency(record: dict[str, Any]) -> list[str]:
    if not latency.timings_of(record):
        return []
    confidence = latency.confidence_of(record)
    parts = ["### Latency"]
    parts += ["\n".join(f"> - {escaped(caution)}" for caution in conditions.condition_cautions(record))]
    parts += [_batch(timings, confidence) for timings in latency.by_batch(record).values()]
    return parts


def _batch(timings: list[latency.Timing], confidence: str) -> str:
    data = latency.latency_table(timings, confidence)
    return f"{escaped(data.caption)}:\n\n{table_text(data)}"


def _environment(record: dict[str, Any]) -> str:
    environment = record.get("environment") or {}
    packages = environment.get("packages") or {}
    versions = [f"{name} {version}" for name, version in packages.items() if version]
    known = [environment.get("cpu"), environment.get("platform"), *versions]
    said = listed([str(word) for word in known if word])
    made = f"Made {record['created']}" if record.get("created") else "Made"
    return f"<sub>{escaped(f'{made} on {said}.' if said else f'{made}.')}</sub>"
