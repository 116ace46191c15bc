"""Which timing and which artifact belong together, and what is said of those that are left, or got worse."""

from typing import Any

import pytest

from attn_export.exporter.errors import IncomparableReportsError
from attn_export.exporter.records.compare import ComparisonReport
from attn_export.exporter.records.report import Report
from tests.budgets.conftest import Compared
from tests.budgets.sample import BUNDLE, FILE, changed, sample_artifact, sample_report, sample_timing, sample_timings

OLD = sample_report()


def files(*names: str, precision: str = "float32", milliseconds: float = 3) -> Report:
    """PyTorch, and these files, each a millisecond slower than the one before."""
    eager = sample_timing("eager", 10)
    timings = [
        sample_timing("onnxruntime", milliseconds + i, eager, artifact=name, precision=precision)
        for i, name in enumerate(names)
    ]
    artifacts = tuple(sample_artifact(name, precision=precision) for name in names)
    return sample_report([eager, *timings], artifacts=artifacts)


def paired(found: ComparisonReport) -> dict[str | None, float]:
    """How long each file took before."""
    return {pair.artifact: round(pair.old_ms) for pair in found.pairs if pair.artifact}


# Timings.


def test_a_file_may_have_another_name(compared: Compared) -> None:
    found = compared(files("before.onnx"), files("after.onnx"))
    assert paired(found) == {"after.onnx": 3}
    assert found.only_old == found.only_new == ()


def test_the_precision_is_the_files(compared: Compared) -> None:
    half = files("model.onnx", precision="float16")
    assert paired(compared(half, half)) == {"model.onnx": 3}
    with_its_name_only = changed(files("model.onnx"), {"artifacts": (sample_artifact(precision="float16"),)})
    assert paired(compared(half, with_its_name_only)) == {"model.onnx": 3}
    assert paired(compared(half, files("model.onnx"))) == {}


def test_of_several_of_a_kind_those_of_one_name_belong_together(compared: Compared) -> None:
    found = compared(files("a.onnx", "b.onnx"), files("b.onnx", "a.onnx"))
    assert paired(found) == {"b.onnx": 4, "a.onnx": 3}


def test_of_two_of_a_kind_one_may_have_another_name(compared: Compared) -> None:
    found = compared(files("a.onnx", "b.onnx"), files("b.onnx", "new.onnx"))
    assert paired(found) == {"b.onnx": 4, "new.onnx": 3}


def test_two_of_a_kind_with_other_names_are_not_guessed_at(compared: Compared) -> None:
    found = compared(files("a.onnx", "b.onnx"), files("c.onnx", "d.onnx"))
    assert paired(found) == {}
    assert found.only_old == ("onnxruntime of a.onnx, batch 1", "onnxruntime of b.onnx, batch 1")
    assert "onnxruntime of a.onnx, batch 1 was timed before, and isn't now" in found.notes
    assert "onnxruntime of d.onnx, batch 1 is timed now, and wasn't before" in found.notes


@pytest.mark.parametrize(
    "other",
    [
        {"runtime": "compile"},
        {"batch": 8},
        {"device": "cuda"},
        {"precision": "float16"},
        {"artifact": "model.engine"},
    ],
    ids=str,
)
def test_another_runtime_batch_device_precision_or_format_is_something_else(
    compared: Compared, other: dict[str, Any]
) -> None:
    known = {"runtime": "onnxruntime", "artifact": FILE}
    old, new = (
        sample_report([sample_timing(milliseconds=3, **{**known, **changes})], artifacts=()) for changes in ({}, other)
    )
    with pytest.raises(IncomparableReportsError, match="no timing in common") as caught:
        compared(old, new)
    assert "onnxruntime of model.onnx, batch 1 before" in caught.value.message


def test_what_only_one_of_them_timed_is_said(compared: Compared) -> None:
    eager = sample_timing("eager", 10)
    more = sample_report([eager, sample_timing("compile", 5, eager)])
    found = compared(OLD, more)
    assert found.only_old == ("onnxruntime of model.onnx, batch 1",)
    assert found.only_new == ("compile, batch 1",)
    assert [pair.decides for pair in found.pairs] == ["latency"], "nothing else rests on eager any more"


# How the runs differ.


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"created": "2020-01-01T00:00:00+00:00"}, "are they the wrong way round?"),
        ({"environment": {"python": "3.12.1"}}, "another python: 3.13.5, now 3.12.1"),
        ({"environment": {"platform": "Linux-7"}}, "another platform: Linux-6.1-x86_64, now Linux-7"),
        (
            {"environment": {"packages": {"torch": "2.14.0", "onnx": "1.23"}}},
            "other versions: torch 2.13.0, now 2.14.0, onnx unknown, now 1.23",
        ),
        ({"latency": {"timed": "copies too"}}, "the latencies cover different work"),
    ],
)
def test_what_else_differs_is_said(compared: Compared, changes: dict[str, Any], says: str) -> None:
    found = compared(OLD, sample_report(**changes))
    assert [note for note in found.notes if says in note]
    assert len(found.notes) == 1


def test_a_version_that_a_package_explains_is_said_once(compared: Compared) -> None:
    def record(version: str) -> Report:
        eager = sample_timing("eager", 10)
        file = sample_timing("onnxruntime", 3, eager, artifact=FILE, provenance=f"onnxruntime {version}, CPU")
        return sample_report([eager, file], environment={"packages": {"onnxruntime": version}})

    found = compared(record("1.31.0"), record("1.32.0"))
    assert found.notes == ("other versions: onnxruntime 1.31.0, now 1.32.0",)
    assert [pair.decides for pair in found.pairs] == [None, "both"], "the baseline is the same"


# What they computed.


NOT_VALIDATED = sample_report(artifacts=(sample_artifact(validation=None),))
NO_ONNX_FILE = sample_report(artifacts=(BUNDLE,))


def worst(ratio: float | None) -> Report:
    return sample_report(artifacts=(sample_artifact(error=None if ratio is None else ratio * 5e-7),))


@pytest.mark.parametrize(
    ("new", "says"),
    [
        (NOT_VALIDATED, "model.onnx was compared with PyTorch before, and isn't now"),
        (worst(9.0), "model.onnx agreed with PyTorch before, and DISAGREES now"),
        (worst(3.0), "model.onnx: the worst error ratio is 3.00, 0.80 before"),
        (
            sample_report(artifacts=(sample_artifact(differ=2),)),
            "gives another class than float64 for 2 of 50 images, 0 of 50 before",
        ),
        (sample_report(artifacts=()), "model.onnx was made before, and isn't now"),
        (NO_ONNX_FILE, "model.onnx was made before, and isn't now"),
    ],
)
def test_a_verdict_that_got_worse_is_said(compared: Compared, new: Report, says: str) -> None:
    assert [note for note in compared(OLD, new).notes if says in note]


@pytest.mark.parametrize("old", [OLD, worst(9.0), NOT_VALIDATED, worst(3.0), NO_ONNX_FILE])
def test_a_verdict_that_got_no_worse_is_not_mentioned(compared: Compared, old: Report) -> None:
    worse = ("compared with PyTorch", "DISAGREES", "worst error ratio", "another class", "was made before")
    assert not [note for note in compared(old, OLD).notes if any(words in note for words in worse)]


def test_both_verdicts_are_there(compared: Compared) -> None:
    (entry,) = compared(OLD, worst(None)).validations
    assert entry.before is not None
    assert entry.now is not None
    assert (entry.before.worst_ratio, entry.now.worst_ratio) == (0.8, None), "an error that is no number has no ratio"


def test_artifacts_are_reported_apart_by_precision_and_name(compared: Compared) -> None:
    both = (sample_artifact(), sample_artifact("model.fp16.onnx", precision="float16"))
    found = compared(sample_report(artifacts=both), sample_report(sample_timings(), artifacts=both[1:]))
    assert [(v.artifact, v.before is None, v.now is None) for v in found.validations] == [
        ("model.fp16.onnx", False, False),
        (FILE, False, True),
    ]
