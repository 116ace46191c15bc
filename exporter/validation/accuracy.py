"""Accuracy on labelled images: what PyTorch and each artifact answer, and where they differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import structs

from attn_export.exporter.errors import DisagreementError
from attn_export.exporter.records.accuracy import Accuracy, Evaluation
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.verdict import QualityRequirement

TOP = 5
NONE = -1  # the answer where scores aren't finite


@dataclass(frozen=True)
class Answers:
    """What the scores of some images say.

    Attributes:
        answers: the class with the largest score, (N,).
        ranks: the number of classes before the label, (N,).
        signal, noise: sums of squares of PyTorch's scores, and of the differences from them.
        margins: see `Flip.margin`, (N,).
    """

    answers: Array
    ranks: Array
    signal: float
    noise: float
    margins: Array


def answers_of(scores: Array, labels: Array, reference: Array) -> Answers:
    """What scores say.

    Scores are (N, classes).
    """
    scores, reference = np.asarray(scores, np.float64), np.asarray(reference, np.float64)
    good = np.isfinite(scores).all(1)
    rows, finite = np.arange(len(scores)), np.where(good[:, None], scores, 0.0)
    answers = np.where(good, finite.argmax(1), NONE)
    own = finite[rows, labels][:, None]
    ties = (finite == own) & (np.arange(finite.shape[1]) < labels[:, None])
    ranks = np.where(good, ((finite > own) | ties).sum(1), finite.shape[1])
    chances = probabilities(reference)
    margins = np.where(good, np.nan_to_num(chances.max(1) - chances[rows, answers], nan=1.0), 1.0)
    usable = good & np.isfinite(reference).all(1)
    signal, noise = reference[usable], scores[usable] - reference[usable]
    return Answers(answers, ranks, float(np.square(signal).sum()), float(np.square(noise).sum()), margins)


def probabilities(scores: Array) -> Array:
    """Scores as probabilities; those that are some already as they are."""
    if (scores >= 0).all() and np.allclose(scores.sum(1), 1, atol=1e-3):
        return scores
    with np.errstate(invalid="ignore"):  # of scores that aren't finite
        powers = np.exp(scores - scores.max(1, keepdims=True))
        chances: Array = powers / powers.sum(1, keepdims=True)
    return chances


def of_all(scores: Array, classes: Array, count: int) -> Array:
    """Probabilities of the best classes as those of all: the others share what is left, (N, count).

    Both are (N, top).
    """
    scores = np.asarray(scores, np.float64)
    rest = np.maximum(1 - scores.sum(1, keepdims=True), 0) / max(count - scores.shape[1], 1)
    found = np.repeat(rest, count, axis=1)
    np.put_along_axis(found, np.asarray(classes, np.int64), scores, axis=1)
    return found


def joined(parts: Sequence[Answers]) -> Answers:
    """The answers of several batches as one."""
    return Answers(
        np.concatenate([part.answers for part in parts]),
        np.concatenate([part.ranks for part in parts]),
        sum(part.signal for part in parts),
        sum(part.noise for part in parts),
        np.concatenate([part.margins for part in parts]),
    )


def accuracy_of(found: Answers, reference: Answers, *, artifact: str, runtime: str, classes: int) -> Accuracy:
    """The shares of right and equal answers."""
    right, was_right = found.ranks == 0, reference.ranks == 0
    return Accuracy(
        artifact=artifact,
        runtime=runtime,
        top1=float(right.mean()),
        top5=float((found.ranks < TOP).mean()) if classes > TOP else None,
        agreement=float((found.answers == reference.answers).mean()),
        lost=int((was_right & ~right).sum()),
        gained=int((right & ~was_right).sum()),
        sqnr_db=10 * float(np.log10(found.signal / found.noise)) if found.noise and found.signal else None,
        not_finite=int((found.answers == NONE).sum()),
    )


def flipped(found: Mapping[str, Answers], reference: Answers) -> list[int]:
    """The images that any artifact answers otherwise than PyTorch, those with the largest margin first."""
    margins = np.zeros(len(reference.answers))
    for answers in found.values():
        margins = np.maximum(margins, np.where(answers.answers == reference.answers, -1.0, answers.margins + 1.0))
    order = np.argsort(-margins, kind="stable")
    return [int(i) for i in order if margins[i] > 0]


def judged(found: Accuracy, requirement: QualityRequirement | None) -> Accuracy:
    """An accuracy with what it doesn't meet of a requirement."""
    if requirement is None:
        return found
    decibels = None if found.sqnr_db is None else f"{found.sqnr_db:.1f} dB of SQNR"
    exact = found.sqnr_db is None and not found.not_finite
    limits = [
        (requirement.top1, found.top1, f"top-1 of {found.top1:.2%}"),
        (requirement.top5, found.top5, "too few classes" if found.top5 is None else f"top-5 of {found.top5:.2%}"),
        (requirement.agreement, found.agreement, f"agreement of {found.agreement:.2%}"),
        (requirement.sqnr, np.inf if exact else found.sqnr_db, decibels or "no finite scores"),
    ]
    missed = [words for least, value, words in limits if least is not None and (value is None or value < least)]
    return structs.replace(found, missed=tuple(missed))


def missed(evaluation: Evaluation | None) -> DisagreementError | None:
    """The error for artifacts below the requirement; None if all meet it."""
    if evaluation is None or evaluation.requirement is None:
        return None
    poor = {found.artifact: f"has {', '.join(found.missed)}" for found in evaluation.artifacts if found.missed}
    poor |= {name: f"is not evaluated: {reason}" for name, reason in evaluation.not_evaluated.items()}
    if not poor:
        return None
    reasons = "; ".join(f"{name} {words}" for name, words in poor.items())
    own = evaluation.results[0]
    return DisagreementError(
        f"{reasons}, over {evaluation.source.images} labelled images; {evaluation.requirement} is required",
        hint=f"PyTorch itself has a top-1 of {own.top1:.2%}. Quantize with more typical images, keep more layers in "
        "float, or require less.",
    )
