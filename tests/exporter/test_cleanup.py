"""The same function in fewer nodes: every step is named, counted and changes nothing that can be measured."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from attn_export.exporter.artifacts import MODULE_KEY, Graph, Target
from attn_export.exporter.cleanup import pipeline
from attn_export.exporter.cleanup.pipeline import clean_graph
from attn_export.exporter.cleanup.rule import MatchResult, Rule
from attn_export.exporter.cleanup.rules import RULES, TARGET_RULES
from attn_export.exporter.cleanup.steps import AFTER, BEFORE
from attn_export.exporter.errors import CleanupError
from attn_export.exporter.graph.gates import gates_of

ATTENDED = ("toy", "se_resnet8", "cbam_resnet8")


def operators(graph: Graph) -> Counter[str]:
    return Counter(node.op_type for node in graph.model.graph.all_nodes())


def cleaned(graph: Graph, target: Target = Target.ANY) -> Graph:
    return clean_graph(graph, target)[0]


def step_names() -> list[str]:
    return [*(name for name, _ in BEFORE), "apply rules", *(name for name, _ in AFTER)]


def layers(graph: Graph) -> list[str]:
    """The modules whose weights are applied."""
    applied = (node for node in graph.model.graph.all_nodes() if node.op_type in ("Conv", "Gemm"))
    return [node.metadata_props.get(MODULE_KEY, "") for node in applied]


def serialized(graph: Graph) -> bytes:
    return ir.to_proto(graph.model).SerializeToString(deterministic=True)


def run(graph: Graph, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """In ONNX Runtime, as it is: none of its own optimizations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        ir.to_proto(graph.model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (output,) = session.run(None, {"input": images})
    return np.asarray(output)


@pytest.mark.parametrize(("name", "most"), [("se_resnet8", 40), ("cbam_resnet8", 70)])
def test_a_third_of_the_nodes_is_left(captured: Callable[[str], Graph], name: str, most: int) -> None:
    before = len(captured(name).model.graph)
    assert len(cleaned(captured(name)).model.graph) <= most < before / 3


@pytest.mark.parametrize("name", ATTENDED)
def test_batch_norm_and_what_computes_constants_are_gone(captured: Callable[[str], Graph], name: str) -> None:
    assert operators(captured(name))["BatchNormalization"] > 0
    left = operators(cleaned(captured(name)))
    gone = ("BatchNormalization", "Constant", "Identity", "Shape", "Cast", "Clip", "Dropout", "Gather", "Slice")
    assert {name: left[name] for name in gone} == dict.fromkeys(gone, 0)


@pytest.mark.parametrize("name", ATTENDED)
def test_what_attention_computes_is_still_there(captured: Callable[[str], Graph], name: str) -> None:
    before, after = operators(captured(name)), operators(cleaned(captured(name)))
    for kept in ("Sigmoid", "ReduceMean", "ReduceMax", "Relu"):
        assert after[kept] == before[kept], f"cleanup may not add or drop a {kept}"
    # A gate's layers become convolutions, and the two branches of a channel gate go through its second layer as one.
    twice = sum(path.endswith("ChannelGate.fc2") for path in layers(captured(name))) // 2
    assert after["Conv"] + after["Gemm"] == before["Conv"] + before["Gemm"] - twice
    assert after["Gemm"] == 1, "the classifier is no gate"


@pytest.mark.parametrize("target", Target)
@pytest.mark.parametrize("name", ATTENDED)
def test_every_target_gets_all_gates(captured: Callable[[str], Graph], name: str, target: Target) -> None:
    graph, done = clean_graph(captured(name), target)
    assert [gate.module_path for gate in gates_of(graph.model)] == [
        gate.module_path for gate in gates_of(captured(name).model)
    ]
    assert graph.blocks == done.blocks
    assert len(done.blocks) == operators(captured(name))["Sigmoid"] // (2 if name.startswith("cbam") else 1)
    assert done.reverted == (), "no rule is wrong"


@pytest.mark.parametrize("target", Target)
@pytest.mark.parametrize("name", ATTENDED)
def test_the_clean_graph_computes_the_same(captured: Callable[[str], Graph], name: str, target: Target) -> None:
    size = 16 if name == "toy" else 32
    images = np.random.default_rng(3).standard_normal((3, 3, size, size), dtype=np.float32)
    before, after = run(captured(name), images), run(cleaned(captured(name), target), images)
    # Folding BatchNorm into a convolution rounds once elsewhere; nothing else may differ.
    assert np.linalg.norm(after - before) <= 1e-5 * np.linalg.norm(before)
    assert np.linalg.norm(before) > 1e-2, "zeros would prove nothing"


@pytest.mark.parametrize("name", ATTENDED)
def test_the_clean_graph_is_valid(captured: Callable[[str], Graph], name: str) -> None:
    onnx.checker.check_model(ir.to_proto(cleaned(captured(name)).model), full_check=True)


@pytest.mark.parametrize("target", Target)
@pytest.mark.parametrize("name", ATTENDED)
def test_a_second_cleanup_changes_nothing(captured: Callable[[str], Graph], name: str, target: Target) -> None:
    once = cleaned(captured(name), target)
    before = serialized(once)
    twice = cleaned(once, target)
    assert serialized(twice) == before
    assert {(step.nodes_before, step.nodes_after) for step in twice.steps[len(once.steps) :]} == {
        (len(twice.model.graph), len(twice.model.graph))
    }


@pytest.mark.parametrize("name", ATTENDED)
def test_the_signature_and_the_names_at_the_border_stay(captured: Callable[[str], Graph], name: str) -> None:
    raw = captured(name)
    done = cleaned(captured(name))
    assert (done.signature, done.parent_sha256, done.opset) == (raw.signature, raw.parent_sha256, raw.opset)
    assert done.model.opset_imports == {"": raw.opset}
    for side in ("inputs", "outputs"):
        before, after = getattr(raw.model.graph, side), getattr(done.model.graph, side)
        assert [(v.name, str(v.shape), v.dtype) for v in after] == [(v.name, str(v.shape), v.dtype) for v in before]


def test_gates_and_convolutions_still_know_their_modules(captured: Callable[[str], Graph]) -> None:
    done = cleaned(captured("cbam_resnet8"))
    assert all(gate.module_path for gate in gates_of(done.model))
    assert all(node.metadata_props.get(MODULE_KEY) for node in done.model.graph if node.op_type in ("Conv", "Gemm"))


def test_names_are_unique_and_equal_constants_are_shared(captured: Callable[[str], Graph]) -> None:
    model = cleaned(captured("cbam_resnet8")).model
    names = [value.name for node in model.graph for value in node.outputs] + list(model.graph.initializers)
    assert len(names) == len(set(names))
    contents = [
        (tensor.dtype, tuple(tensor.shape), tensor.tobytes())
        for value in model.graph.initializers.values()
        if (tensor := value.const_value) is not None
    ]
    assert len(contents) == len(set(contents))


@pytest.mark.parametrize("target", Target)
def test_every_step_is_recorded_with_honest_counts(captured: Callable[[str], Graph], target: Target) -> None:
    raw = captured("cbam_resnet8")
    count = len(raw.model.graph)
    done, told = clean_graph(raw, target)
    assert done.steps == told.steps
    assert [step.name for step in done.steps] == step_names()
    assert [step.nodes_before for step in done.steps] == [count, *(step.nodes_after for step in done.steps[:-1])]
    assert done.steps[-1].nodes_after == len(done.model.graph)


def test_steps_are_added_to_those_before(captured: Callable[[str], Graph], monkeypatch: pytest.MonkeyPatch) -> None:
    once = cleaned(captured("toy"))
    monkeypatch.setattr(pipeline, "BEFORE", (("nothing", lambda _: None),))
    monkeypatch.setattr(pipeline, "AFTER", ())
    twice, told = clean_graph(once)
    assert [step.name for step in told.steps] == ["nothing", "apply rules"]
    assert twice.steps == (*once.steps, *told.steps)


def test_step_names_are_unique() -> None:
    """But for those that are done again once the rules are through: an error names the step."""
    for steps in (BEFORE, AFTER):
        names = [name for name, _ in steps]
        assert len(names) == len(set(names))
        assert "apply rules" not in names


def test_rule_names_are_unique() -> None:
    for shaping in TARGET_RULES.values():
        names = [rule.name for rule in (*RULES, *shaping)]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ATTENDED)
def test_what_prepare_leaves_is_what_the_rules_are_given(captured: Callable[[str], Graph], name: str) -> None:
    raw = captured(name)
    pipeline.prepare(raw.model)
    steps = {step.name: step for step in cleaned(captured(name)).steps}
    assert steps["apply rules"].nodes_before == len(raw.model.graph)


@pytest.mark.parametrize("stage", ["BEFORE", "AFTER"])
@pytest.mark.parametrize("error", [ValueError("odd graph"), AssertionError(), KeyError("x")], ids=repr)
def test_a_failing_step_is_named(
    captured: Callable[[str], Graph], monkeypatch: pytest.MonkeyPatch, error: Exception, stage: str
) -> None:
    def fail(_: ir.Model) -> None:
        raise error

    where = getattr(pipeline, stage)
    monkeypatch.setattr(pipeline, stage, (*where[:2], ("fold the laundry", fail), *where[2:]))
    with pytest.raises(CleanupError, match="the cleanup step 'fold the laundry' failed") as caught:
        clean_graph(captured("toy"))
    assert caught.value.__cause__ is error


def test_a_failing_rule_is_a_failure_of_the_rules_step(
    captured: Callable[[str], Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = ValueError("odd node")

    def match(*_: Any) -> MatchResult:
        raise error

    monkeypatch.setitem(TARGET_RULES, Target.ANY, (Rule("trip", frozenset({"Conv"}), match),))
    with pytest.raises(CleanupError, match="the cleanup step 'apply rules' failed: odd node") as caught:
        clean_graph(captured("toy"))
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("stage", ["BEFORE", "AFTER"])
def test_an_interruption_is_no_failure_of_the_step(
    captured: Callable[[str], Graph], monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def interrupt(_: ir.Model) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, stage, (("slow", interrupt),))
    with pytest.raises(KeyboardInterrupt):
        clean_graph(captured("toy"))


@pytest.mark.parametrize("target", Target)
def test_nothing_is_printed(
    captured: Callable[[str], Graph], target: Target, capfd: pytest.CaptureFixture[str]
) -> None:
    graph = captured("cbam_resnet8")
    capfd.readouterr()  # what capturing says is another test's affair
    clean_graph(graph, target)
    assert capfd.readouterr() == ("", "")


def test_a_large_constant_is_not_unfolded_into_the_file(captured: Callable[[str], Graph], tmp_path: Path) -> None:
    """A shape and a fill value are a few bytes; what they expand to may be megabytes."""
    text = """<ir_version: 10, opset_import: ["" : 20]> g (float[N, 512, 512] x) => (float[N, 512, 512] y)
        <int64[2] shape = {512, 512}> { ones = ConstantOfShape <value = float[1] {1.0}> (shape)  y = Add(x, ones) }"""
    model = ir.from_onnx_text(text)
    source = captured("toy")
    done = cleaned(Graph(model=model, signature=source.signature, parent_sha256="", opset=20))
    assert sum(value.const_value.nbytes for value in done.model.graph.initializers.values() if value.const_value) < 1000
    assert operators(done) == {"ConstantOfShape": 1, "Add": 1}
