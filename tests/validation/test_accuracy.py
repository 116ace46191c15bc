"""Accuracy: right answers, equal answers, and which differ most."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies
from hypothesis.extra import numpy as arrays
from msgspec.structs import replace

from attn_export.exporter.errors import UsageError
from attn_export.exporter.records.accuracy import Evaluation
from attn_export.exporter.records.images import ImageSource
from attn_export.exporter.records.verdict import QualityRequirement
from attn_export.exporter.validation.accuracy import (
    NONE,
    Answers,
    accuracy_of,
    answers_of,
    flipped,
    joined,
    judged,
    missed,
    of_all,
    probabilities,
)
from attn_export.exporter.validation.quantized import parse_requirement

IMAGES, CLASSES = 12, 8
SCORES = arrays.arrays(np.float32, (IMAGES, CLASSES), elements=strategies.integers(-4, 4).map(float))
LABELS = arrays.arrays(np.int64, IMAGES, elements=strategies.integers(0, CLASSES - 1))


@hypothesis.given(SCORES, SCORES, LABELS)
def test_shares_are_those_of_counting_one_by_one(scores: np.ndarray, reference: np.ndarray, labels: np.ndarray) -> None:
    """Of equal scores the first counts, as for argmax; the order of batches doesn't matter."""
    own = answers_of(reference, labels, reference)
    parts = [answers_of(scores[rows], labels[rows], reference[rows]) for rows in (slice(0, 5), slice(5, None))]
    found = joined(parts)
    result = accuracy_of(found, own, artifact="a", runtime="r", classes=CLASSES)
    best = [sorted(range(CLASSES), key=lambda i: (-row[i], i)) for row in scores]
    first = [int(np.argmax(row)) for row in reference]
    right = [order[0] == label for order, label in zip(best, labels, strict=True)]
    was_right = [answer == label for answer, label in zip(first, labels, strict=True)]
    assert result.top1 == pytest.approx(np.mean(right))
    assert result.top5 == pytest.approx(
        np.mean([label in order[:5] for order, label in zip(best, labels, strict=True)])
    )
    assert result.agreement == pytest.approx(np.mean([o[0] == a for o, a in zip(best, first, strict=True)]))
    assert result.lost == sum(b and not a for a, b in zip(right, was_right, strict=True))
    assert result.gained == sum(a and not b for a, b in zip(right, was_right, strict=True))
    different = {i for i in range(IMAGES) if best[i][0] != first[i]}
    assert set(flipped({"a": found}, own)) == different


def one(scores: list[list[float]], labels: list[int], reference: list[list[float]]) -> Answers:
    return answers_of(np.array(scores), np.array(labels), np.array(reference))


def test_scores_that_are_not_finite_are_wrong_and_counted() -> None:
    reference = [[2.0, 0.0], [0.0, 2.0]]
    found = one([[np.nan, 5.0], [0.0, 2.0]], [1, 1], reference)
    own = one(reference, [1, 1], reference)
    result = accuracy_of(found, own, artifact="a", runtime="r", classes=2)
    assert found.answers.tolist() == [NONE, 1]
    assert (result.top1, result.agreement, result.not_finite, result.sqnr_db) == (0.5, 0.5, 1, None)
    assert result.top5 is None
    assert judged(result, QualityRequirement(sqnr=20)).missed == ("no finite scores",)
    assert flipped({"a": found}, own) == [0]
    broken = one([[1.0, 0.0]], [0], [[np.inf, np.inf]])
    assert broken.margins.tolist() == [1.0]


def test_artifacts_that_were_not_evaluated_do_not_meet_a_requirement() -> None:
    reference = [[2.0, 0.0], [0.0, 2.0]]
    own = one(reference, [0, 1], reference)
    result = accuracy_of(own, own, artifact="PyTorch", runtime="eager", classes=2)
    source = ImageSource("photos", 2)
    evaluation = Evaluation(
        source=source, classes=2, matched="", results=(result,), not_evaluated={"a.engine": "there is no GPU"}
    )
    assert missed(evaluation) is None
    error = missed(replace(evaluation, requirement=QualityRequirement(top1=0.5)))
    assert error is not None
    assert "a.engine is not evaluated: there is no GPU" in error.message


def test_the_images_that_pytorch_is_surest_of_come_first() -> None:
    reference = [[1.0, 0.0, 0.0], [9.0, 0.0, 0.0], [3.0, 0.0, 0.0], [9.0, 0.0, 0.0]]
    other = [[0.0, 1.0, 0.0]] * 3 + [[9.0, 0.0, 0.0]]
    found, own = one(other, [0] * 4, reference), one(reference, [0] * 4, reference)
    assert flipped({"a": found}, own) == [1, 2, 0]
    assert flipped({"a": own}, own) == []
    assert found.margins[1] == pytest.approx(0.999, abs=1e-3)


def test_probabilities_are_taken_as_they_are() -> None:
    given = np.array([[0.2, 0.8], [1.0, 0.0]])
    assert probabilities(given) is given
    assert probabilities(np.array([[0.0, np.log(3)]])).tolist() == [[pytest.approx(0.25), pytest.approx(0.75)]]


def test_sqnr_is_against_pytorch_and_missing_where_scores_are_equal() -> None:
    reference = [[10.0, 0.0], [0.0, 10.0]]
    found, own = one([[10.0, 1.0], [0.0, 10.0]], [0, 1], reference), one(reference, [0, 1], reference)
    result = accuracy_of(found, own, artifact="a", runtime="r", classes=2)
    assert result.sqnr_db == pytest.approx(10 * np.log10(200))
    assert judged(result, QualityRequirement(sqnr=30)).missed == ("23.0 dB of SQNR",)
    exact = accuracy_of(own, own, artifact="a", runtime="r", classes=2)
    assert judged(exact, QualityRequirement(sqnr=99, agreement=1.0, top1=1.0)).missed == ()
    assert judged(exact, QualityRequirement(top5=0.5)).missed == ("too few classes",)


def test_requirements_are_shares_percentages_and_decibels() -> None:
    parsed = parse_requirement(["top1=99%", "top5=1", "agreement=0.995", "sqnr=20"])
    assert parsed == QualityRequirement(sqnr=20, agreement=0.995, top1=0.99, top5=1.0)
    assert str(parsed) == "top1=99%,top5=100%,agreement=99.5%,sqnr=20"
    for wrong in ("top1=99", "top2=1", "sqnr=20%", "agreement=-1", "top1", "top1=nan"):
        with pytest.raises(UsageError):
            parse_requirement([wrong])


@hypothesis.given(strategies.integers(0, 2**32 - 1), strategies.integers(1, 8))
def test_the_best_classes_judge_like_all_as_far_as_they_go(seed: int, top: int) -> None:
    draw = np.random.default_rng(seed)
    scores = draw.dirichlet(np.full(8, 0.5), size=6)
    classes = np.argsort(-scores, axis=1)[:, :top]
    labels = draw.integers(0, 8, 6)
    spread = of_all(np.take_along_axis(scores, classes, 1), classes, 8)
    np.testing.assert_allclose(spread.sum(1), 1)
    whole, partial = answers_of(scores, labels, scores), answers_of(spread, labels, spread)
    assert np.array_equal(whole.answers, partial.answers)
    within = whole.ranks < top
    assert np.array_equal(whole.ranks[within], partial.ranks[within])
    assert (partial.ranks[~within] >= top).all()
