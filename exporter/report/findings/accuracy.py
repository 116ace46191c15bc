"""Accuracy on labelled images, side by side."""

from attn_export.exporter.records.accuracy import Accuracy, Evaluation
from attn_export.exporter.records.gates import PYTORCH
from attn_export.exporter.report.findings.table import BAD, GOOD, PLAIN, Cell, Table, table
from attn_export.exporter.report.findings.words import SPACE, counted, listed

SHOWN = 5


def accuracy_table(evaluation: Evaluation) -> Table:
    """A row for PyTorch and for each artifact."""
    heads = (
        "artifact,<runtime,top-1,top-5,PyTorch's class,only PyTorch is right,only it is right,SQNR,not finite,<required"
    )
    rows = [_row(found, evaluation) for found in evaluation.results]
    return table(f"Accuracy on {counted(evaluation.source.images, 'labelled image')}", heads.split(","), rows)


def _row(found: Accuracy, evaluation: Evaluation) -> list[str | Cell]:
    own = found.artifact == PYTORCH
    exact = "exact" if not found.not_finite else ""
    return [
        found.artifact,
        found.runtime,
        share(found.top1),
        "" if found.top5 is None else share(found.top5),
        "" if own else share(found.agreement),
        "" if own else str(found.lost),
        "" if own else str(found.gained),
        "" if own else exact if found.sqnr_db is None else f"{found.sqnr_db:.1f}{SPACE}dB",
        str(found.not_finite) if found.not_finite else "",
        _requirement(found, evaluation, own=own),
    ]


def _requirement(found: Accuracy, evaluation: Evaluation, *, own: bool) -> Cell:
    if own or evaluation.requirement is None:
        return Cell("")
    return Cell(f"missed: {listed(found.missed)}", BAD) if found.missed else Cell(f"{evaluation.requirement}", GOOD)


def share(value: float) -> str:
    """A share of images in percent: one of a hundred thousand can be seen."""
    return f"{100 * value:.2f}{SPACE}%"


def flips_table(evaluation: Evaluation, most: int = SHOWN) -> Table:
    """The images that are answered otherwise than in PyTorch, those that PyTorch is surest of first."""
    names = [found.artifact for found in evaluation.results]
    rows = [
        [flip.image, flip.label, *(flip.answers.get(name, "") for name in names), f"{flip.margin:.3f}"]
        for flip in evaluation.flips[:most]
    ]
    heads = ["image", "<label", *(f"<{name}" for name in names), "margin"]
    return table("Answered otherwise than in PyTorch", heads, rows)


def flips_sentence(evaluation: Evaluation) -> str:
    """How many images are answered otherwise."""
    if not evaluation.artifacts:
        return "No artifact could be evaluated."
    verb = "is" if evaluation.flipped == 1 else "are"
    count = counted(evaluation.flipped, "image") if evaluation.flipped else "No image"
    verb = verb if evaluation.flipped else "is"
    missing = "".join(f" {name} is not evaluated: {reason}." for name, reason in evaluation.not_evaluated.items())
    return f"{count} of {evaluation.source.images} {verb} answered otherwise than in PyTorch.{missing}"


def verdict_words(evaluation: Evaluation | None) -> tuple[str, str, str] | None:
    """Two words, a sentence with the basis, and a mark; None without an evaluation."""
    if evaluation is None:
        return None
    own, missed = evaluation.results[0], [found.artifact for found in evaluation.artifacts if found.missed]
    lowest = min(evaluation.results, key=lambda found: found.top1)
    words = f"{share(lowest.top1)} to {share(own.top1)}" if lowest.top1 < own.top1 else share(own.top1)
    basis = f"Top-1 on {counted(evaluation.source.images, 'labelled image')}. {flips_sentence(evaluation)}"
    if missed:
        return words, f"{basis} {listed(missed)} missed what is required: {evaluation.requirement}.", BAD
    return words, basis, GOOD if evaluation.requirement else PLAIN
