"""What is said of a record: true, and no more than was measured."""

import copy
from typing import Any

import pytest

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
from attn_export.exporter.report.findings.summary import Badge, badges
from attn_export.exporter.report.findings.words import (
    decimals,
    error,
    large,
    listed,
    percent,
    plus_minus,
    ratio,
    shortened,
    shown,
    times,
)
from tests.report.sample import Record, bare_sample, engine, gpu_conditions, sample


@pytest.fixture
def record() -> Record:
    return sample(blocks=2, runtimes=("eager", "onnxruntime"), rounds=20)


def badge(record: Record, about: str) -> Badge:
    (found,) = (b for b in badges(record) if b.about == about)
    return found


# Verdicts.


def test_artifacts_that_agree_are_said_to(record: Record) -> None:
    found = badge(record, "Against PyTorch")
    assert (found.verdict, found.mark) == ("Agrees", "good")
    assert found.basis.startswith("model.onnx: 5 tensors agree; the worst is at ")


def test_one_that_disagrees_makes_the_whole_disagree(record: Record) -> None:
    bad = record["artifacts"][0]["validation"]
    bad["agrees"] = bad["comparisons"][0]["agrees"] = False
    bad["comparisons"][0].update(ratio=None, error=None)
    found = badge(record, "Against PyTorch")
    assert (found.verdict, found.mark) == ("DISAGREES", "bad")
    assert "model.onnx: 1 of 5 tensors; the worst is no number" in found.basis


def test_an_artifact_that_could_not_be_compared_is_not_passed_over(record: Record) -> None:
    record["artifacts"].append(engine("model", ["layer1.0.attention"], "CBAM"))
    assert "model.engine could not be compared." in badge(record, "Against PyTorch").basis


def test_nothing_compared_is_no_agreement(record: Record) -> None:
    record["artifacts"][0].update(validation=None, not_run="no GPU")
    found = badge(record, "Against PyTorch")
    assert (found.verdict, found.mark) == ("Not compared", "unsure")


def test_where_nothing_was_to_be_compared_nothing_is_said_of_it(record: Record) -> None:
    record["artifacts"][0]["validation"] = None
    assert not [b for b in badges(record) if b.about == "Against PyTorch"]


def test_the_fastest_runtime_is_named_with_its_interval(record: Record) -> None:
    timing = record["latency"]["timings"][1]
    found = badge(record, "Fastest")
    low, high = timing["ratio_interval"]
    assert (found.verdict, found.mark) == ("onnxruntime", "good")
    assert f"{timing['ratio']:.3f} of eager's time ({low:.3f} to {high:.3f})." in found.basis


def test_where_it_can_not_be_told_no_runtime_is_called_faster(record: Record) -> None:
    record["latency"]["timings"][1].update(verdict="can't tell", ratio=0.995, ratio_interval=[0.98, 1.01])
    found = badge(record, "Fastest")
    assert (found.verdict, found.mark) == ("Can't tell", "unsure")
    assert "Nothing is faster than eager beyond what chance could do." in found.basis
    sentence = latency.ratio_sentence(record["latency"]["timings"][1], "onnxruntime", "eager")
    assert sentence.startswith("Whether onnxruntime is faster or slower than eager can't be told")


def test_a_baseline_that_everything_else_is_slower_than_is_the_fastest(record: Record) -> None:
    record["latency"]["timings"][1].update(verdict="slower", ratio=1.2, ratio_interval=[1.1, 1.3])
    found = badge(record, "Fastest")
    assert (found.verdict, found.mark) == ("eager", "good")


def test_of_two_that_are_as_fast_neither_is_called_the_fastest_alone(record: Record) -> None:
    timings = record["latency"]["timings"]
    timings.append(timings[1] | {"runtime": "compile", "ratio": timings[1]["ratio"] * 1.001})
    assert "It can't be told apart from compile." in badge(record, "Fastest").basis
    timings[2]["ratio_interval"] = [0.9, 0.95]
    assert "told apart" not in badge(record, "Fastest").basis


def test_a_ratio_of_two_devices_says_so(record: Record) -> None:
    record["latency"]["timings"][1]["device"] = "cuda"
    assert "It compares cuda against cpu." in badge(record, "Fastest").basis


@pytest.mark.parametrize(
    ("states", "verdict", "mark"),
    [
        (["kept"], "Kept", "good"),
        (["kept", "kept"], "All 2 kept", "good"),
        (["kept", "can't tell"], "Can't tell", "unsure"),
        (["broken", "can't tell"], "1 of 2 broken", "bad"),
    ],
)
def test_the_worst_budget_decides(record: Record, states: list[str], verdict: str, mark: str) -> None:
    one = record["budgets"][0]
    record["budgets"] = [one | {"state": state} for state in states]
    found = badge(record, "Budgets")
    assert (found.verdict, found.mark) == (verdict, mark)


def test_no_budget_no_verdict(record: Record) -> None:
    record["budgets"] = []
    assert budgets.verdict_words(record) is None
    assert not [b for b in badges(record) if b.about == "Budgets"]


def test_a_bare_record_has_no_verdicts() -> None:
    assert badges(bare_sample()) == []


# Latency.


def test_names_are_no_longer_than_it_takes_to_tell_runtimes_apart(record: Record) -> None:
    first, second = record["latency"]["timings"]
    assert latency.labels_of([first, second]) == ["eager", "onnxruntime"]
    half = second | {"precision": "float16"}
    assert latency.labels_of([second, half]) == ["onnxruntime float32", "onnxruntime float16"]
    other = second | {"artifact": "other.onnx"}
    assert latency.labels_of([second, other]) == ["onnxruntime model.onnx", "onnxruntime other.onnx"]
    assert latency.labels_of([second, second]) == ["onnxruntime (1)", "onnxruntime (2)"]
    assert latency.labels_of([first, second, half]) == ["eager", "onnxruntime float32", "onnxruntime float16"]


def test_a_quiet_machine_gives_no_reason_for_caution(record: Record) -> None:
    assert conditions.condition_cautions(record) == []


def test_every_reason_for_caution_is_said(record: Record) -> None:
    run = record["latency"]["runs"][0]
    run.update(reached=False, interval=0.05)
    run["conditions"].update(others=0.4, steal=0.2, gpus=[gpu_conditions()])
    record["latency"]["timings"][0]["warm_up"]["stable"] = False
    record["latency"]["timings"][1]["p90_ms"] *= 3
    said = " ".join(conditions.condition_cautions(record)).replace("\N{NO-BREAK SPACE}", " ")
    for words in (
        "±2.0 %, was not reached in 14.2 s; it is ±5.0 %",
        "slowed down by software thermal slowdown",
        "other process on NVIDIA H100 80GB HBM3 while it was timed: 123",
        "other processes took 40 % of the CPU time",
        "the hypervisor took 20 %",
        "the latencies of onnxruntime vary a lot",
        "the warm-up of eager ended before",
    ):
        assert words in said


def test_what_is_timed_and_how_is_said(record: Record) -> None:
    said = " ".join(conditions.conditions_sentences(record)).replace("\N{NO-BREAK SPACE}", " ")
    assert "Timed is one inference" in said
    assert "2 threads on CPUs 0 and 1" in said
    assert "20 rounds of 3 inferences in 14.2 s, until the ratios were known to ±1.3 % (±2.0 % was asked for)" in said
    assert "The load was 0.4 when it began" in said


# Graphs.


def test_a_block_is_cut_out_with_what_it_reads(record: Record) -> None:
    ((kind, place, before, after),) = graphs.representatives(record["graphs"][0])
    assert (kind, place) == ("CBAM", "layer1.0.attention")
    assert before is not None
    assert (len(before.operators), len(after.operators)) == (30, 16)
    assert after.sources == ("Conv",)
    assert after.inputs[0] == (-1,)
    assert after.inputs[9] == (-1, 8)


def test_graphs_that_are_alike_are_shown_once(record: Record) -> None:
    record["graphs"].append(copy.deepcopy(record["graphs"][0]) | {"artifact": "model.fp16.onnx"})
    assert [graph["artifact"] for graph in graphs.graphs_of(record)] == ["model.onnx"]


def test_halves_of_a_block_before_are_the_block_after(record: Record) -> None:
    outline = record["graphs"][0]["before"]
    place = outline["inventory"][0]["module_path"]
    outline["inventory"].append({"kind": "gate", "module_path": f"{place}.SpatialGate"})
    own = [i for i, block in enumerate(outline["blocks"]) if block == 0]
    for node in own[20:]:
        outline["blocks"][node] = len(outline["inventory"]) - 1
    before = graphs.representatives(record["graphs"][0])[0][2]
    assert before is not None
    assert len(before.operators) == 30


# Attention, gates, precision.


def test_the_cost_of_attention_is_one_sentence(record: Record) -> None:
    said = attention.cost_sentence(record["attention_cost"][0]).replace("\N{NO-BREAK SPACE}", " ")
    assert said == (
        "model.onnx in onnxruntime, batch 1: 2 CBAM blocks: 0.4 % of the MACs, 8.0 % of the kernels' time; with "
        "attention the network takes 1.076 times as long as without (1.064 to 1.087)."
    )


def test_a_cost_within_the_noise_is_not_claimed(record: Record) -> None:
    cost = record["attention_cost"][0] | {"verdict": "can't tell"}
    assert attention.cost_sentence(cost).endswith("which can't be told from no difference.")


def test_kernels_that_attention_adds_are_counted() -> None:
    assert attention.engine_sentence(engine("model", [], "SE")) == (
        "model.engine: attention adds 16 kernels, 28 instead of 12."
    )


def test_of_many_blocks_the_first_of_each_stage_and_the_last_are_shown() -> None:
    blocks = gates.blocks_seen(sample(blocks=16, rounds=2, channels=4, side=2))
    first, others = gates.shown_at_once(blocks)
    places = ["layer1.0", "layer2.4", "layer3.8", "layer4.12", "layer4.15"]
    assert [block.path.removesuffix(".attention") for block in first] == places
    assert len(first) + len(others) == len(blocks) == 16
    assert gates.shown_at_once(blocks[:8]) == (blocks[:8], [])


def test_the_gates_of_a_block_are_together(record: Record) -> None:
    blocks = gates.blocks_seen(record)
    assert [(b.path, b.kind, len(b.gates)) for b in blocks] == [
        ("layer1.0.attention", "CBAM", 2),
        ("layer3.1.attention", "CBAM", 2),
    ]
    assert blocks[0].gates[0].words.startswith("64 channels: 0.0")


def test_sensitivity_needs_two_precisions(record: Record) -> None:
    assert precision.growth_sentence(record).endswith("only float32 was compared.")
    both = sample(blocks=2, rounds=2, precisions=("float32", "float16"))
    assert precision.growth_sentence(both).startswith("Most sensitive, by absolute error: layer")


def test_mixed_kernels_are_called_mixed() -> None:
    made: dict[str, Any] = engine("model", [], "SE")
    assert precision.kernel_types(made) == ("float32, as the graph says", "good")
    made["types"].update(mixed=[{"kernel": "a"}], kernels=["FLOAT", "HALF"])
    words, mark = precision.kernel_types(made)
    assert words == "MIXED: 1 kernel in another type than the graph says (float32 and float16)"
    assert mark == "bad"


# Where it was made.


def test_a_record_of_several_files_is_called_by_them() -> None:
    def called(*names: str) -> str:
        return environment.title_of({"artifacts": [{"path": f"folder/{name}"} for name in names]})

    assert called("a.onnx") == "a.onnx"
    assert called("a.onnx", "b.onnx") == "a.onnx and b.onnx"
    assert called("a.onnx", "b.onnx", "c.onnx") == "a.onnx and 2 more"
    assert called() == "attn-export"


def test_the_command_can_be_pasted_into_a_shell(record: Record) -> None:
    record["command"] = ["attn-export", "my model.pt", "--onnx"]
    assert environment.command_line(record) == "attn-export 'my model.pt' --onnx"


def test_hashes_of_the_checkpoint_and_of_everything_made_are_listed(record: Record) -> None:
    found = environment.file_table(record)
    assert found is not None
    assert [row[0].text for row in found.rows] == ["model.pt", "model.onnx"]
    assert [row[-1].text for row in found.rows] == ["5969" * 16, "1c1e" * 16]


def test_an_error_that_a_run_met_is_told(record: Record) -> None:
    artifact = record["artifacts"][0]
    artifact.update(starts={"module": "layer2.0.conv1"}, error={"message": "it disagrees", "hint": "", "exit_code": 1})
    said = errors.artifact_sentences(artifact)
    assert "The error starts in layer2.0.conv1." in said
    assert "it disagrees." in said


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
    assert [ratio(v) for v in (0.0312, 0.5, 1.0, 12.34)] == ["0.0312", "0.500", "1.000", "12.3"]
    assert [plus_minus(v) for v in (0.02, 0.999, 167.03)] == [
        f"±2.0{space}%", f"±100{space}%", f"more than ±100{space}%"
    ]  # fmt: skip
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"


def test_what_can_not_be_seen_is_marked() -> None:
    assert shown("a\x00b\n\u202ec\ud800") == "a�b��c�"
    assert shortened("abcdefghij", 5) == "ab…ij"
    assert shortened("abc", 5) == "abc"
