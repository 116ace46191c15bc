"""What is written is what docs/ says of it."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from attn_export.cli import run
from attn_export.exporter.budgets.check import budget_records, check_budgets
from attn_export.exporter.budgets.parse import parse_budgets
from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.compare.compare import compare, comparison_record
from attn_export.exporter.compare.read import WrongShape, read_report
from attn_export.exporter.records.latency import Schedule
from attn_export.exporter.system.progress import NullProgress
from attn_export.exporter.workflows.export import export_loaded
from attn_export.exporter.workflows.settings import ExportSettings
from tests.budgets.sample import sample_artifact, sample_record, sample_timings, scaled

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits" / "cbam_digits.pt"
RUNTIMES = ("eager", "onnxruntime")


def schema(name: str) -> jsonschema.Draft202012Validator:
    document = json.loads((ROOT / "docs" / f"{name}.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


REPORT, COMPARISON = schema("report"), schema("compare")
WHOLE = sample_record()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a real export with latencies."""
    quick = Schedule(seconds=0.2, fewest_rounds=8, inferences=1, warm_up_seconds=0.1)
    settings = ExportSettings(threads=1, schedule=quick, command=("attn-export", "cbam_digits.pt", "--onnx"))
    model = load(DIGITS)
    return export_loaded(model, tmp_path_factory.mktemp("out"), "cbam_digits", settings, NullProgress()).report


def test_a_real_report_is_as_the_schema_says(exported: Path) -> None:
    REPORT.validate(json.loads(exported.read_text(encoding="utf-8")))


def test_a_real_report_with_engines_and_bundles_is_as_the_schema_says(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX, which builds without a GPU, is not installed")
    options = ["--engine", "--gpu", "sm86,Jetson Orin Nano", "--precision", "fp16", "--no-bench", "--quiet"]
    assert run([str(DIGITS), *options, "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "cbam_digits.report.json").read_text(encoding="utf-8"))
    assert {artifact["format"] for artifact in record["artifacts"]} == {"onnx", "engine", "bundle"}
    REPORT.validate(record)


def test_a_real_bench_is_as_the_schema_says_and_compares_with_the_export(exported: Path, tmp_path: Path) -> None:
    report, file = tmp_path / "bench.json", exported.with_name("cbam_digits.onnx")
    options = ["--threads", "1", "--seconds", "0.2", "--batch", "1,2", "--quiet", "--report", str(report)]
    assert run(["bench", str(DIGITS), str(file), *options]) == 0
    REPORT.validate(json.loads(report.read_text(encoding="utf-8")))
    found = compare(read_report(exported), read_report(report), 9.0)
    assert [(pair.runtime, pair.batch) for pair in found.pairs] == [("eager", 1), ("onnxruntime", 1)]
    assert found.only_new == ("eager, batch 2", "onnxruntime of cbam_digits.onnx, batch 2")


def test_a_real_report_compares_with_itself(exported: Path) -> None:
    report = read_report(exported)
    found = compare(report, report, 0.05)
    assert found.broken == ()
    assert [pair.verdict for pair in found.pairs] == ["baseline", "can't tell"]
    assert "both reports are the same" in found.notes


def test_the_sample_is_as_the_schema_says() -> None:
    record = sample_record([*sample_timings(), *sample_timings(batch=8)], artifacts=[sample_artifact(differ=None)])
    results = check_budgets(record, parse_budgets(["latency=3", "eager:p99=1s", "ratio=80%"], RUNTIMES))
    REPORT.validate({**record, "budgets": budget_records(results)})


def test_results_of_budgets_are_as_the_schema_says() -> None:
    record = sample_record(artifacts=[sample_artifact(differ=1), {**sample_artifact("b.onnx"), "validation": None}])
    results = check_budgets(record, parse_budgets(["drop=0.5%", "latency=3"], RUNTIMES))
    assert [result.value is None for result in results] == [False, True, False, True]
    REPORT.validate({**record, "budgets": json.loads(json.dumps(budget_records(results)))})


def ways(document: Any, way: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """To every field of every object."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield (*way, key)
            yield from ways(value, (*way, key))
    elif isinstance(document, list) and document:
        yield from ways(document[0], (*way, 0))


def without(document: Any, way: tuple[str | int, ...]) -> Any:
    made = copy.deepcopy(document)
    place = made
    for step in way[:-1]:
        place = place[step]
    del place[way[-1]]
    return made


# Objects whose names are data, so that none of them has to be there.
FREE = {"architecture", "packages", "ratios", "shapes"}


@pytest.mark.parametrize("way", [w for w in ways(WHOLE) if not FREE & set(w[:-1])], ids=str)
def test_a_missing_field_of_a_report_is_found(way: tuple[str | int, ...]) -> None:
    assert not REPORT.is_valid(without(WHOLE, way))


def test_a_new_field_is_allowed_anywhere() -> None:
    record = sample_record(news=1, model={"news": 1}, latency={"news": 1}, environment={"news": 1})
    record["latency"]["timings"][0]["news"] = 1
    record["artifacts"][0]["news"] = 1
    REPORT.validate(record)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": 2},
        {"created": "yesterday"},
        {"artifacts": [{"path": "model.onnx", "format": "onnx"}]},
        {"latency": {"threads": 0}},
        {"budgets": [{"budget": "latency=3", "state": "kept"}]},
    ],
)
def test_what_is_no_report_is_found(changes: dict[str, Any]) -> None:
    assert not REPORT.is_valid(sample_record(**changes))


def write(path: Path, record: dict[str, Any]) -> Path:
    path.write_text(json.dumps(record), encoding="utf-8")
    return path


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("cpu", ["A processor", "Another"])
def test_a_comparison_is_as_its_schema_says(tmp_path: Path, factor: float, cpu: str) -> None:
    old = read_report(write(tmp_path / "old.json", sample_record()))
    changed = scaled(sample_record(environment={"cpu": cpu}), factor, ["onnxruntime"])
    new = read_report(write(tmp_path / "new.json", changed))
    found = compare(old, new, 0.05)
    results = check_budgets(new.record, parse_budgets(["latency=3"], RUNTIMES))
    document = json.loads(json.dumps(comparison_record(found, results, None), allow_nan=False))
    COMPARISON.validate(document)
    for way in ways(document):
        assert not COMPARISON.is_valid(without(document, way)), way


def test_both_schemas_say_the_same_of_what_they_share() -> None:
    mine, other = REPORT.schema["$defs"], COMPARISON.schema["$defs"]
    for name in ("budget", "interval", "error"):
        assert mine[name] == other[name]


def test_what_is_needed_to_compare_is_a_part_of_what_the_schema_asks_for() -> None:
    """A report that the schema accepts is never refused as not whole."""
    from attn_export.exporter.compare.read import REPORT as NEEDED

    for way in ways(WHOLE):
        record = without(WHOLE, way)
        try:
            NEEDED(record, "")
        except WrongShape:
            assert not REPORT.is_valid(record), way
