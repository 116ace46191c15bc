"""What is no report that can be compared, and how that is said."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attn_export.exporter.comparison.read import read_timed_report
from attn_export.exporter.errors import UnreadableReportError
from attn_export.exporter.records.document import SCHEMA_VERSION, plain
from attn_export.exporter.report import read
from tests.budgets.sample import sample_report

WHOLE: dict[str, Any] = plain(sample_report())


def saved(folder: Path, document: Any) -> Path:
    path = folder / "a.report.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def refusal(path: Path) -> UnreadableReportError:
    with pytest.raises(UnreadableReportError) as caught:
        read_timed_report(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_code == 3
    return caught.value


def with_timing(**changes: Any) -> dict[str, Any]:
    """The record with another second timing; a change to None takes the field away."""
    record = json.loads(json.dumps(WHOLE))
    timing = record["latency"]["timings"][1]
    for key, value in changes.items():
        if value is None:
            del timing[key]
        else:
            timing[key] = value
    return dict(record)


def document(**changes: Any) -> dict[str, Any]:
    """The record with these fields, whatever their types."""
    return dict(plain(sample_report(**changes)))


# What is read.


def test_a_whole_report_is_read(tmp_path: Path) -> None:
    assert read_timed_report(saved(tmp_path, WHOLE)).record == sample_report()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_other_shells_write_is_read(tmp_path: Path, encoding: str) -> None:
    """PowerShell's ``>`` writes UTF-16, and others a byte order mark."""
    path = tmp_path / "a.json"
    path.write_bytes(json.dumps(WHOLE).encode(encoding))
    assert read_timed_report(path).record == sample_report()


def test_an_error_beside_latencies_is_no_obstacle(tmp_path: Path) -> None:
    """A run whose budget was broken has latencies all the same."""
    error = {"message": "broken", "hint": "", "exit_code": 1}
    assert read_timed_report(saved(tmp_path, {**WHOLE, "error": error})).timings


def test_fields_of_later_versions_are_no_obstacle(tmp_path: Path) -> None:
    assert read_timed_report(
        saved(tmp_path, {**WHOLE, "news": {"a": 1}, "latency": {**WHOLE["latency"], "news": [1]}})
    ).timings


# What isn't there, or isn't JSON.


def test_a_missing_file(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "none.report.json").message


def test_a_folder(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path).message


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_cant_be_read(tmp_path: Path) -> None:
    path = saved(tmp_path, WHOLE)
    path.chmod(stat.S_IWUSR)
    assert "can't be read" in refusal(path).message


@pytest.mark.parametrize("content", [b"", b" \n"])
def test_an_empty_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    assert "is empty" in refusal(path).message


@pytest.mark.parametrize(
    "content",
    [
        b"<html>",
        b"{",
        json.dumps(WHOLE)[:-50].encode(),
        b"note: something\n" + json.dumps(WHOLE).encode(),
        b"\xff\xfe\x00",
        b"[" * 100_000,
        bytes(range(256)),
    ],
    ids=["html", "cut at once", "cut late", "with other lines", "no text", "deep", "binary"],
)
def test_what_is_no_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    assert "is no JSON document" in refusal(path).message


def test_a_huge_file_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "MOST_BYTES", 1000)
    assert "is larger than" in refusal(saved(tmp_path, WHOLE)).message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    assert "it is no file" in refusal(tmp_path / "a.json").message


def test_a_key_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(json.dumps(WHOLE).encode().replace(b'"artifacts"', b'"\xa6rtifacts"'))
    assert "is no" in refusal(tmp_path / "a.json").message


# What is JSON, and no report with latencies.


@pytest.mark.parametrize("value", [[], {}, None, 3, 10**4000, "text", {"latency": {}}, [WHOLE]], ids=str)
def test_what_is_no_report(tmp_path: Path, value: Any) -> None:
    assert "is no report of attn-export" in refusal(saved(tmp_path, value)).message


def test_the_document_of_a_failed_run_says_why_it_failed(tmp_path: Path) -> None:
    error = {"message": "there is no disk space", "hint": "", "exit_code": 6}
    error_only = {"schema_version": SCHEMA_VERSION, "error": error}
    assert "there is no disk space" in refusal(saved(tmp_path, error_only)).message


def test_another_command_s_document(tmp_path: Path) -> None:
    inventory = {"schema_version": SCHEMA_VERSION, "path": "model.onnx", "attention": []}
    assert "another command's document" in refusal(saved(tmp_path, inventory)).message


def test_a_report_without_latencies(tmp_path: Path) -> None:
    error = refusal(saved(tmp_path, plain(sample_report([]))))
    assert "nothing was timed" in error.message
    assert "--no-bench" in error.hint


@pytest.mark.parametrize(
    ("version", "hint"),
    [
        (SCHEMA_VERSION + 1, "Update attn-export"),
        (0, "Make the report again"),
        (1, "Make the report again"),
        ("1", "Make the report again"),
        (True, "Make the report"),
    ],
)
def test_another_schema_version_says_who_made_it_and_what_to_do(tmp_path: Path, version: Any, hint: str) -> None:
    packages = {"packages": {"attn-export": "9.8.7"}}
    error = refusal(saved(tmp_path, document(schema_version=version, environment=packages)))
    assert (
        f"schema version {version!r}, made by attn-export 9.8.7, and this attn-export reads {SCHEMA_VERSION}"
        in error.message
    )
    assert hint in error.hint


def test_another_schema_version_may_look_like_anything(tmp_path: Path) -> None:
    assert "schema version 7, and this" in refusal(saved(tmp_path, {"schema_version": 7, "environment": []})).message


# What is damaged.


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"median_ms": -3.0}, "Expected `float` > 0.0 - at `$.latency.timings[1].median_ms`"),
        ({"median_ms": 0}, "timings[1].median_ms"),
        ({"median_ms": 10**400}, "Number out of range - at `$.latency.timings[1].median_ms`"),
        ({"median_ms": "3"}, "Expected `float`, got `str` - at `$.latency.timings[1].median_ms`"),
        ({"median_ms": True}, "timings[1].median_ms"),
        ({"median_ms": None}, "missing required field `median_ms` - at `$.latency.timings[1]`"),
        ({"rounds_ms": None}, "missing required field `rounds_ms` - at `$.latency.timings[1]`"),
        ({"rounds_ms": []}, "length >= 1 - at `$.latency.timings[1].rounds_ms`"),
        ({"rounds_ms": [[]] * 60}, "length >= 1 - at `$.latency.timings[1].rounds_ms[0]`"),
        ({"rounds_ms": [[3.0, -1.0]] * 60}, "timings[1].rounds_ms[0][1]"),
        ({"rounds_ms": [[3.0]] * 59}, "more rounds than others of batch 1"),
        ({"rounds_ms": "[[3.0]]"}, "Expected `array`, got `str`"),
        ({"median_interval_ms": [3.0]}, "timings[1].median_interval_ms"),
        ({"ratio_interval": [3.0, 2.0]}, "ratio_interval is (3.0, 2.0); expected is the smaller number first"),
        ({"ratio_interval": [0, 2.0]}, "timings[1].ratio_interval[0]"),
        ({"verdict": "better"}, "Invalid enum value 'better' - at `$.latency.timings[1].verdict`"),
        ({"verdict": "baseline"}, "has 2 baselines of batch 1"),
        ({"batch": 0}, "timings[1].batch"),
        ({"batch": 2}, "has 0 baselines of batch 2"),
        ({"batch": 1.5}, "timings[1].batch"),
        ({"runtime": {}}, "Expected `str`, got `object` - at `$.latency.timings[1].runtime`"),
    ],
)
def test_a_damaged_timing(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    error = refusal(saved(tmp_path, with_timing(**changes)))
    assert "is no whole report" in error.message
    assert says in error.message


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"latency": None}, "Expected `object`, got `null` - at `$.latency`"),
        ({"latency": {"timings": None}}, "Expected `array`, got `null` - at `$.latency.timings`"),
        ({"latency": {"schedule": {"confidence": 99}}}, "at `$.latency.schedule.confidence`"),
        ({"latency": {"schedule": {"interval": 0}}}, "at `$.latency.schedule.interval`"),
        ({"latency": {"threads": 0}}, "at `$.latency.threads`"),
        ({"latency": {"cpus": ["0"]}}, "at `$.latency.cpus["),
        ({"environment": []}, "Expected `object`, got `array` - at `$.environment`"),
        ({"environment": {"packages": {"torch": 2}}}, "Expected `str`, got `int` - at `$.environment.packages"),
        (
            {"model": {"inputs": [{"name": "x", "dtype": "", "shape": [1, -16]}]}},
            "Expected `int` >= 1 - at `$.model.inputs[",
        ),
        ({"model": "cbam_resnet8"}, "Expected `object | null`, got `str` - at `$.model`"),
        ({"artifacts": [3]}, "Expected `object`, got `int` - at `$.artifacts["),
        ({"artifacts": [{"path": "a", "format": "onnx"}]}, "missing required field `precision` - at `$.artifacts["),
        ({"artifacts": [{"path": "a", "format": "tflite"}]}, "Invalid value 'tflite' - at `$.artifacts["),
    ],
)
def test_a_damaged_report(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    assert says in refusal(saved(tmp_path, document(**changes))).message


@pytest.mark.parametrize("name", ["images", "differ"])
def test_a_negative_number_of_images(tmp_path: Path, name: str) -> None:
    record = document()
    record["artifacts"][0]["validation"]["classes"][name] = -1
    message = refusal(saved(tmp_path, record)).message
    assert "is no whole report: Expected `int` >= 0 - at `$.artifacts[" in message
    assert f".classes.{name}`" in message


@pytest.mark.parametrize(("name", "value"), [("batch", 0), ("interval", -0.1), ("reached", 1)])
def test_a_damaged_run(tmp_path: Path, name: str, value: float) -> None:
    record = document()
    record["latency"]["runs"][0][name] = value
    assert f"at `$.latency.runs[0].{name}`" in refusal(saved(tmp_path, record)).message


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_latency_that_is_no_finite_number(tmp_path: Path, number: str) -> None:
    path = saved(tmp_path, with_timing(median_ms=123456.75))
    path.write_text(path.read_text(encoding="utf-8").replace("123456.75", number), encoding="utf-8")
    assert str(path) in refusal(path).message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    place=st.sampled_from(["created", "model", "artifacts", "latency", "environment", "schema_version"]),
    value=json_values,
)
def test_whatever_stands_somewhere_is_read_or_refused_in_words(tmp_path: Path, place: str, value: Any) -> None:
    path = saved(tmp_path, {**WHOLE, place: value})
    try:
        read_timed_report(path)
    except UnreadableReportError as error:
        refused = error
    else:
        return
    assert refused.hint
