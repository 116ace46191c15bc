"""What a record says about how artifacts stand to PyTorch in float64."""

from collections.abc import Sequence
from typing import Any

from attn_export.exporter.report.findings.table import BAD, GOOD, PLAIN, QUIET, UNSURE, Cell, Table, table
from attn_export.exporter.report.findings.words import SPACE, counted, error, listed, shape, times

Artifact = dict[str, Any]
Comparison = dict[str, Any]
WORST = 8  # rows of the short table
NOT_ASKED = "it was not asked for"


def artifacts_of(record: dict[str, Any]) -> list[Artifact]:
    """All artifacts, bundles included."""
    return list(record.get("artifacts") or [])


def judged(record: dict[str, Any]) -> list[Artifact]:
    """Those that were compared."""
    return [artifact for artifact in artifacts_of(record) if artifact.get("validation")]


def not_judged(record: dict[str, Any]) -> list[tuple[str, str]]:
    """Names of the others, with the reason as far as it is known; bundles can't be run."""
    return [
        (artifact["path"], _why_not(artifact))
        for artifact in artifacts_of(record)
        if not artifact.get("validation") and artifact["format"] != "bundle"
    ]


def was_asked(record: dict[str, Any]) -> bool:
    """Whether anything was to be compared: some artifact was, or says why it wasn't."""
    return bool(judged(record)) or any(reason != NOT_ASKED for _, reason in not_judged(record))


def _why_not(artifact: Artifact) -> str:
    if failed := artifact.get("error"):
        return str(failed["message"])
    return artifact.get("not_run") or NOT_ASKED


def severity(comparison: Comparison) -> float:
    """The ratio, infinite where the error is no number."""
    return float("inf") if comparison["ratio"] is None else float(comparison["ratio"])


def worst_of(comparisons: Sequence[Comparison]) -> Comparison | None:
    """The one that stands nearest to its limit, or furthest beyond it."""
    return max(comparisons, key=lambda c: severity(c) / c["limit"], default=None)


def artifact_table(record: dict[str, Any]) -> Table:
    """One row for each artifact."""
    rows: list[list[str | Cell]] = []
    for artifact in artifacts_of(record):
        validation = artifact.get("validation")
        precision = artifact.get("precision") or ""
        if validation is None:
            if artifact["format"] != "bundle":
                reason = Cell(f"not compared: {_why_not(artifact)}", UNSURE)
                rows.append([artifact["path"], reason, precision, *[""] * 7])
            continue
        gates, outputs = (
            worst_of([c for c in validation["comparisons"] if c["role"] == role]) for role in ("gate", "output")
        )
        classes = validation.get("classes")
        rows.append(
            [
                artifact["path"],
                Cell("agrees", GOOD) if validation["agrees"] else Cell("DISAGREES", BAD),
                precision,
                validation["runtime"],
                str(validation["images"]),
                str(sum(c["role"] == "gate" for c in validation["comparisons"])) if gates else "not seen",
                times(gates["ratio"]) if gates else "",
                times(outputs["ratio"]) if outputs else "",
                f"{(outputs or gates or {'limit': 0})['limit']:g}×",
                f"{classes['differ']} of {classes['images']}" if classes else "",
            ]
        )
    heads = "artifact,<verdict,<precision,<ran in,images,gates,worst gate,worst output,allowed,other top-1 class"
    return table("Error against PyTorch in float64, as a multiple of PyTorch's own", heads.split(","), rows)


def comparison_table(comparisons: Sequence[Comparison], caption: str) -> Table:
    """One row for each tensor."""
    return table(
        caption,
        ["tensor", "<role", "<worst on", "error", "PyTorch's own", "ratio", "allowed", "<verdict"],
        [
            [
                c["tensor"],
                Cell(c["role"], QUIET),
                c["kind"],
                error(c["error"]),
                error(c["baseline"]),
                times(c["ratio"]),
                f"{c['limit']:g}×",
                Cell("agrees", GOOD) if c["agrees"] else Cell("DISAGREES", BAD),
            ]
            for c in comparisons
        ],
    )


def worst_first(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The few that a reader looks for: the worst, and whatever disagrees, outputs among them."""
    ordered = sorted(comparisons, key=lambda c: -severity(c) / c["limit"])
    return ordered[:WORST]


def shapes_of(comparisons: Sequence[Comparison]) -> list[str]:
    """The shapes that any tensor has a ratio for, in their order."""
    return list(dict.fromkeys(name for c in comparisons for name in c.get("shapes") or ()))


def artifact_sentences(artifact: Artifact) -> list[str]:
    """What else is to be said of a verdict."""
    validation, said = artifact["validation"], []
    batches = listed([shape(dims) for dims in validation["batches"]])
    said.append(f"{counted(validation['images'], 'image')} in batches of {batches}, in {validation['runtime']}.")
    if validation.get("gates_missed"):
        said.append(f"Its gates were not compared: {validation['gates_missed']}.")
    if classes := validation.get("classes"):
        differ, images = classes["differ"], counted(classes["images"], "ordinary image")
        said.append(
            f"Of {images}, {differ or 'none'} {'has' if differ <= 1 else 'have'} another top-1 class than in float64."
        )
    if start := artifact.get("starts"):
        said.append(f"The error starts in {start.get('module') or start.get('tensor')}.")
    if quality := artifact.get("quantized"):
        said.append("It rounds to whole numbers: its runtime is compared with what its own graph says in float64.")
        said.append(_quality(quality))
    if failed := artifact.get("error"):
        said.append(f"{failed['message']}. {failed['hint']}".strip())
    return said


def _quality(found: dict[str, Any]) -> str:
    told = [f"{name} {sqnr:.1f}{SPACE}dB" for name, sqnr in found["sqnr_db"].items() if sqnr is not None]
    same = "" if found["agreement"] is None else f"; {found['agreement']:.1%} of the classes agree"
    return f"Its graph against the network, over {counted(found['images'], 'image')}: {listed(told)}{same}."


def verdict_words(record: dict[str, Any]) -> tuple[str, str, str]:
    """The verdict over all artifacts.

    Returns:
        Two words, what they rest on, and a mark.
    """
    found = judged(record)
    missing = not_judged(record)
    left = f" {listed([name for name, _ in missing])} could not be compared." if missing else ""
    if not found:
        return "Not compared", f"No artifact was compared with PyTorch.{left}", UNSURE if missing else PLAIN
    bad = [artifact["path"] for artifact in found if not artifact["validation"]["agrees"]]
    comparisons = [c for artifact in found for c in artifact["validation"]["comparisons"]]
    worst = worst_of(comparisons)
    tensors = counted(len(comparisons), "tensor")
    near = ""
    if worst:
        far = "no number" if worst["ratio"] is None else f"at {times(worst['ratio'])} PyTorch's own error"
        near = f"; the worst is {far}, {worst['limit']:g}× is allowed"
    of = listed([artifact["path"] for artifact in found])
    if bad:
        count = sum(not c["agrees"] for c in comparisons)
        return "DISAGREES", f"{listed(bad)}: {count} of {tensors}{near}.{left}", BAD
    return "Agrees", f"{of}: {tensors} agree{near}.{left}", GOOD
