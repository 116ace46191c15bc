"""Which timing and which artifact belong together, and what is said of those that are left, or got worse."""

from typing import Any

import pytest

from attn_export.exporter.errors import IncomparableReportsError
from attn_export.exporter.records.compare import ComparisonReport
from attn_export.exporter.records.report import Report
from tests.budgets.conftest import Compared
from tests.budgets.sample import FILE, changed, sample_artifact, sample_report, sample_timing

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
