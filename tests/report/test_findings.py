"""Findings about a report: true, and no more than was measured."""

from typing import Any

import pytest
from msgspec.structs import replace

from attn_export.exporter.records.engine import MixedKernel
from attn_export.exporter.records.report import BundleRecord, ErrorRecord, Report
from attn_export.exporter.report.findings import (
    attention,
    budgets,
    conditions,
    environment,
    errors,
    gates,
    graphs,
    latency,
    precision,
)
from attn_export.exporter.report.findings.engines import kernels_sentence
from attn_export.exporter.report.findings.summary import Badge, badges
from attn_export.exporter.report.findings.words import (
    decimals,
    error,
    large,
    listed,
    percent,
    plus_minus,
    shortened,
    shown,
    speed,
    speed_words,
    times,
)
from tests.report.sample import bare_sample, changed, engine, gpu_conditions, sample


@pytest.fixture
def record() -> Report:
    return sample(blocks=2, runtimes=("eager", "onnxruntime"), rounds=20)


def badge(record: Report, about: str) -> Badge:
    (found,) = (b for b in badges(record) if b.about == about)
    return found


# Verdicts.


def test_agreement_is_a_good_verdict(record: Report) -> None:
    found = badge(record, "Against PyTorch")
    assert (found.verdict, found.mark) == ("Agrees", "good")
    assert "5 tensors" in found.basis


def test_one_disagreement_makes_the_whole_disagree(record: Report) -> None:
    found = badge(changed(record, {"artifacts/0/validation/comparisons/0/error": 1.0}), "Against PyTorch")
    assert (found.verdict, found.mark) == ("DISAGREES", "bad")
    assert "1 of 5 tensors" in found.basis


def test_the_fastest_runtime_is_named_with_its_speed(record: Report) -> None:
    found, timing = badge(record, "Speed"), record.latency.timings[1]
    fast, between = speed(timing.ratio, timing.ratio_interval)
    assert (found.verdict, found.mark) == (f"{fast} times as fast", "good")
    assert found.basis.startswith(f"{between}: onnxruntime against eager.")


def test_a_speed_of_a_run_that_was_too_noisy_is_unsure(record: Report) -> None:
    found = badge(changed(record, {"latency/runs/0/reached": False, "latency/runs/0/interval": 0.3}), "Speed")
    assert found.mark == "unsure"
    assert "warnings about the timing" in found.basis


def test_the_card_has_nodes_before_and_after_and_the_size_of_the_file(record: Report) -> None:
    assert badge(record, "Nodes").verdict == f"226 → {record.onnx_files[0].nodes}"
    file = replace(record.onnx_files[0], cleanup=(), bytes=1_234_567)
    report = replace(record, artifacts=(file,))
    assert badge(report, "Nodes").verdict == str(file.nodes)
    assert badge(report, "File size").verdict.replace("\N{NO-BREAK SPACE}", " ") == "1.2 MB"


def test_without_a_significant_difference_nothing_is_the_fastest(record: Report) -> None:
    found = badge(changed(record, {"latency/timings/1/verdict": "can't tell"}), "Speed")
    assert (found.verdict, found.mark) == ("Can't be told apart", "unsure")


def test_a_baseline_with_slower_rivals_is_the_fastest(record: Report) -> None:
    slower = {"latency/timings/1/verdict": "slower", "latency/timings/1/ratio_interval": (1.1, 1.2)}
    found = badge(changed(record, slower), "Speed")
    assert (found.verdict, found.mark) == ("eager is the fastest", "good")


@pytest.mark.parametrize(("verdict", "interval"), [("faster", (0.2, 1.01)), ("slower", (0.99, 1.2))])
def test_a_ratio_whose_interval_contains_1_makes_nothing_the_fastest(
    record: Report, verdict: str, interval: tuple[float, float]
) -> None:
    changes = {"latency/timings/1/verdict": verdict, "latency/timings/1/ratio_interval": interval}
    found = badge(changed(record, changes), "Speed")
    assert (found.verdict, found.mark) == ("Can't be told apart", "unsure")


def test_of_two_that_are_as_fast_neither_is_the_fastest_alone(record: Report) -> None:
    first, second = record.latency.timings
    near = replace(second, runtime="compile", ratio=second.ratio * 1.001)
    far = replace(near, ratio_interval=(0.9, 0.95))
    for third, expected in ((near, True), (far, False)):
        report = replace(record, latency=replace(record.latency, timings=(first, second, third)))
        found = badge(report, "Speed")
        assert ("not differ significantly from compile" in found.basis) is expected


def test_a_ratio_of_two_devices_says_so(record: Report) -> None:
    assert "cuda against cpu" in badge(changed(record, {"latency/timings/1/device": "cuda"}), "Speed").basis


@pytest.mark.parametrize(
    ("states", "verdict", "mark"),
    [
        (["kept"], "Kept", "good"),
        (["kept", "kept"], "All 2 kept", "good"),
        (["kept", "can't tell"], "Can't tell", "unsure"),
        (["broken", "can't tell"], "1 of 2 broken", "bad"),
    ],
)
def test_the_worst_budget_decides(record: Report, states: list[Any], verdict: str, mark: str) -> None:
    report = replace(record, budgets=tuple(replace(record.budgets[0], state=state) for state in states))
    found = badge(report, "Budgets")
    assert (found.verdict, found.mark) == (verdict, mark)


def test_no_budget_no_verdict(record: Report) -> None:
    assert budgets.verdict_words(()) is None
    assert not [b for b in badges(replace(record, budgets=())) if b.about == "Budgets"]


def test_a_bare_report_has_no_verdicts() -> None:
    assert badges(bare_sample()) == []


# Latency.


def test_labels_are_no_longer_than_it_takes_to_distinguish_runtimes(record: Report) -> None:
    first, second = record.latency.timings
    assert latency.labels_of([first, second]) == ["eager", "onnxruntime"]
    half = replace(second, precision="float16")
    assert latency.labels_of([second, half]) == ["onnxruntime float32", "onnxruntime float16"]
    other = replace(second, artifact="other.onnx")
    assert latency.labels_of([second, other]) == ["onnxruntime model.onnx", "onnxruntime other.onnx"]
    assert latency.labels_of([second, second]) == ["onnxruntime (1)", "onnxruntime (2)"]
    assert latency.labels_of([first, second, half]) == ["eager", "onnxruntime float32", "onnxruntime float16"]


@pytest.mark.parametrize(("median", "text"), [(0.0734, "0.0734"), (0.734, "0.734"), (7.34, "7.34"), (648.1234, "648")])
def test_a_latency_has_three_digits(record: Report, median: float, text: str) -> None:
    timing = replace(record.latency.timings[0], median_ms=median, median_interval_ms=(median, median))
    assert latency.latency_table([timing], "99 %").rows[0][1].text == text


def test_the_baseline_is_named_in_the_head(record: Report) -> None:
    heads = [column.title for column in latency.latency_table(record.latency.timings, "99 %").columns]
    assert "speed, × eager" in heads
    assert "startup time" in heads


def test_a_quiet_machine_gives_no_warnings(record: Report) -> None:
    assert conditions.warning_sentences(record.latency) == []


def test_every_warning_is_shown(record: Report) -> None:
    run = "latency/runs/0"
    disturbed = {f"{run}/reached": False, f"{run}/interval": 0.05, f"{run}/conditions/gpus": [gpu_conditions()]}
    disturbed |= {f"{run}/conditions/others": 0.4, f"{run}/conditions/steal": 0.2}
    disturbed |= {"latency/timings/0/warm_up/stable": False, "latency/timings/1/p90_ms": 99.0}
    text = " ".join(conditions.warning_sentences(changed(record, disturbed).latency)).replace("\N{NO-BREAK SPACE}", " ")
    for words in ("±5.0%", "thermal slowdown", "the GPU", "40%", "20%", "onnxruntime", "warm-up"):
        assert words in text


def test_the_conditions_are_described(record: Report) -> None:
    text = " ".join(conditions.condition_sentences(record.latency)).replace("\N{NO-BREAK SPACE}", " ")
    for words in ("one inference", "2 threads on CPUs 0 and 1"):
        assert words in text
    table = conditions.run_table(record.latency)
    assert table is not None
    cells = [cell.text.replace("\N{NO-BREAK SPACE}", " ") for cell in table.rows[0]]
    assert cells[:5] == ["1", "20", "3", "14.2 s", "±1.3 %"]


# Graphs.


def test_a_block_has_its_operators_before_and_after(record: Report) -> None:
    ((kind, place, before, after),) = graphs.representatives(record.graphs[0])
    assert (kind, place) == ("CBAM", "layer1.0.attention")
    assert before is not None
    assert (len(before), len(after)) == (30, 16)


def test_equal_graphs_are_shown_once(record: Report) -> None:
    twice = (record.graphs[0], replace(record.graphs[0], artifact="model.fp16.onnx"))
    assert [graph.artifact for graph in graphs.graphs_of(replace(record, graphs=twice))] == ["model.onnx"]


def test_halves_of_a_block_before_are_the_block_after(record: Report) -> None:
    outline = record.graphs[0].before
    assert outline is not None
    half = replace(outline.inventory[0], kind="gate", module_path=f"{outline.inventory[0].module_path}.SpatialGate")
    nodes = [i for i, block in enumerate(outline.blocks) if block == 0]
    blocks = tuple(len(outline.inventory) if i in nodes[20:] else block for i, block in enumerate(outline.blocks))
    split = replace(outline, blocks=blocks, inventory=(*outline.inventory, half))
    before = graphs.representatives(replace(record.graphs[0], before=split))[0][2]
    assert before is not None
    assert len(before) == 30


# Attention, gates, precision.


def test_the_cost_of_attention_is_one_sentence(record: Report) -> None:
    text = attention.cost_sentence(record.attention_cost[0]).replace("\N{NO-BREAK SPACE}", " ")
    for words in (
        "2 CBAM blocks",
        "0.4 % of the MACs",
        "8.0 % of the kernel time",
        "takes 1.076 times as long as without (1.064 to 1.087)",
    ):
        assert words in text


def test_a_cost_within_the_noise_is_not_claimed(record: Report) -> None:
    cost = replace(record.attention_cost[0], verdict="can't tell")
    assert "the two can't be told apart" in attention.cost_sentence(cost)


def test_kernels_that_attention_adds_are_counted() -> None:
    made = engine("model", [], "SE")
    assert "attention adds 16 kernels: 28 instead of 12" in kernels_sentence(made.path, made.cost)
    assert "unknown" in kernels_sentence(made.path, replace(made.cost, kernels=None))
    assert "28 kernels" in kernels_sentence(made.path, replace(made.cost, kernels_without_attention=None))


def test_of_many_blocks_the_first_of_each_stage_and_the_last_are_shown() -> None:
    blocks = gates.gated_blocks(sample(blocks=16, rounds=2, channels=4, side=2))
    first, others = gates.shown_at_once(blocks)
    places = ["layer1.0", "layer2.4", "layer3.8", "layer4.12", "layer4.15"]
    assert [block.path.removesuffix(".attention") for block in first] == places
    assert len(first) + len(others) == len(blocks) == 16
    assert gates.shown_at_once(blocks[:6]) == (blocks[:6], [])


def test_the_gates_of_a_block_are_together(record: Report) -> None:
    blocks = gates.gated_blocks(record)
    assert [(b.path, b.kind, len(b.gates)) for b in blocks] == [
        ("layer1.0.attention", "CBAM", 2),
        ("layer3.1.attention", "CBAM", 2),
    ]
    assert blocks[0].gates[0].words.startswith("64 channels: 0.0")


def test_every_gate_has_its_percentiles(record: Report) -> None:
    found = gates.gates_of(record)
    rows = gates.spread_table(record).rows
    assert [row[0].text for row in rows] == [gate.path for gate in found]
    assert rows[0][2].text == f"{min(found[0].values['PyTorch']) / 255:.2f}"
    assert rows[0][6].text == f"{max(found[0].values['PyTorch']) / 255:.2f}"


def test_throughput_needs_two_batches(record: Report) -> None:
    assert latency.throughput_table(record.latency) is None
    several = latency.throughput_table(sample(batches=(1, 4), rounds=2).latency)
    assert several is not None
    assert [column.title for column in several.columns] == ["runtime", "batch 1", "batch 4"]


def test_sensitivity_needs_two_precisions(record: Report) -> None:
    assert precision.sensitivity_table(record) is None
    both = sample(blocks=2, rounds=2, precisions=("float32", "float16"))
    table = precision.sensitivity_table(both)
    assert table is not None
    assert len(table.rows) == 5
    errors_of = [max(float(row[1].text), float(row[3].text)) for row in table.rows]
    assert errors_of == sorted(errors_of, reverse=True)
    assert table.rows[0][0].text in table.caption


def test_mixed_kernels_are_called_mixed() -> None:
    types = engine("model", [], "SE").types
    assert precision.kernel_types(types).mark == "good"
    mixed = (MixedKernel("a", (), ("HALF",), ("FLOAT",)),)
    cell = precision.kernel_types(replace(types, mixed=mixed, kernels=("FLOAT", "HALF")))
    assert cell.text.startswith("MIXED: 1 kernel ")
    assert cell.mark == "bad"


# Environment.


def test_a_report_without_a_network_is_named_after_its_files() -> None:
    def title(*names: str) -> str:
        files = tuple(BundleRecord(f"folder/{name}", "", 0) for name in names)
        return environment.title_of(replace(bare_sample(), artifacts=files))

    assert title("a.onnx") == "a.onnx"
    assert title("a.onnx", "b.onnx") == "a.onnx and b.onnx"
    assert title("a.onnx", "b.onnx", "c.onnx") == "a.onnx and 2 more"
    assert title() == "attn-export"


def test_the_command_can_be_pasted_into_a_shell(record: Report) -> None:
    report = replace(record, command=("attn-export", "my model.pt", "--onnx"))
    assert environment.command_line(report) == "attn-export 'my model.pt' --onnx"


def test_hashes_of_the_checkpoint_and_of_all_artifacts_are_listed(record: Report) -> None:
    found = environment.file_table(record)
    assert found is not None
    assert [row[0].text for row in found.rows] == ["model.pt", "model.onnx"]
    assert [row[-1].text for row in found.rows] == ["5969" * 16, "1c1e" * 16]


def test_the_error_of_an_artifact_is_shown(record: Report) -> None:
    artifact = replace(record.onnx_files[0], error=ErrorRecord("it disagrees", "", 1))
    assert artifact.validation is not None
    assert "it disagrees." in errors.artifact_sentences(artifact, artifact.validation)


# Words.


def test_numbers_are_spelled_for_people() -> None:
    space = "\N{NO-BREAK SPACE}"
    assert [percent(v) for v in (0, 0.0004, 0.004, 0.08, 0.123)] == [
        f"{n}{space}%" for n in ("0", "0.04", "0.4", "8.0", "12")
    ]
    assert [large(v) for v in (12, 12_400, 4.09e9)] == ["12", f"12.4{space}k", f"4.09{space}G"]
    assert [times(v) for v in (1.514, 1234.0, None)] == ["1.51×", "1.23e+03×", "not a number"]
    assert [error(v) for v in (0.0, 1.234e-7, None)] == ["0", "1.2e-07", "not a number"]
    assert [decimals([v]) for v in (0.05, 0.5, 5, 50, 500)] == [4, 3, 2, 1, 0]
    assert [plus_minus(v) for v in (0.02, 0.999, 167.03)] == [
        f"±2.0{space}%", f"±100{space}%", f"more than ±100{space}%"
    ]  # fmt: skip
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"


def test_what_can_not_be_seen_is_marked() -> None:
    assert shown("a\x00b\n\u202ec\ud800") == "a�b��c�"
    assert shortened("abcdefghij", 5) == "ab…ij"
    assert shortened("abc", 5) == "abc"


@pytest.mark.parametrize(
    ("ratio", "ends", "significant", "words"),
    [
        (0.0411, (0.0256, 0.0909), True, "is 24 times as fast as eager (11 to 39)"),
        (0.152, (0.149, 0.156), True, "is 6.58 times as fast as eager (6.41 to 6.71)"),
        (0.992, (0.989, 0.996), True, "is 1.008 times as fast as eager (1.004 to 1.011)"),
        (1.5, (1.4, 1.6), True, "takes 1.50 times as long as eager (1.40 to 1.60)"),
        (0.95, (0.8, 1.25), False, "can't be told apart from eager (0.800 to 1.250 times as fast)"),
        (0.1, (0.0, 0.2), True, "is 10 times as fast as eager (5.00 to ∞)"),
    ],
)
def test_a_latency_ratio_is_spelled_as_people_say_it(
    ratio: float, ends: tuple[float, float], significant: bool, words: str
) -> None:
    assert speed_words(ratio, ends, "eager", significant=significant) == words
