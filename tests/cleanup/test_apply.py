"""Rules that are wrong are kept out, rules that quarrel are named, and what is refused is told."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from attn_export.exporter.artifacts import Target
from attn_export.exporter.cleanup.apply import apply_to_fixpoint
from attn_export.exporter.cleanup.pipeline import clean, prepare
from attn_export.exporter.cleanup.proof import tolerance_of
from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rewrite, Rule, Skip
from attn_export.exporter.cleanup.rules import INTEGER_RULES, RULES, TARGET_RULES
from attn_export.exporter.errors import CleanupError
from attn_export.exporter.graph.facts import constant
from attn_export.exporter.records.policies import REWRITE
from tests.cleanup.conftest import assert_same, graph, model_of, serialized, settled

CONV = graph(
    "float[N, 4, H, W] x",
    "float[N, 6, H, W] y",
    "c = Conv(x, w, b) y = Relu(c)",
    "float[6, 4, 1, 1] w = random, float[6] b = random",
)
MINUS = graph("float[N, 4] x, float[N, 4] e", "float[N, 4] y", "y = Sub(x, e)")
MEAN = graph("float[N, 4, H, W] x", "float[N, 4, 1, W] y", "y = ReduceMean(x, axes)", "int64[1] axes = {2}")


def redraw(op_type: str, change: Callable[[Builder, ir.Node], list[ir.Value | None]], *, rounds: bool = False) -> Rule:
    """A rule that puts the same operator, with changed inputs, in the place of every one."""

    def match(node: ir.Node, _: Context) -> MatchResult:
        builder, old = Builder(), node.outputs[0]
        attributes = {name: value.value for name, value in node.attributes.items()}
        new = builder.add(op_type, *change(builder, node), shape=old.shape, like=old, **attributes)
        return builder.rewrite(tuple(v for v in node.inputs if v is not None and constant(v) is None), old, new)

    return Rule(f"spoil {op_type}", frozenset({op_type}), match, recomputes_constants=rounds)


def nudged(by: float, index: int = 1) -> Callable[[Builder, ir.Node], list[ir.Value | None]]:
    def change(builder: Builder, node: ir.Node) -> list[ir.Value | None]:
        inputs = list(node.inputs)
        array = constant(inputs[index])
        assert array is not None
        spoiled = array.copy()
        spoiled.flat[np.argmax(np.abs(spoiled))] *= 1 + by
        inputs[index] = builder.constant(spoiled, "nudged")
        return inputs

    return change


def along_the_other_axis(builder: Builder, node: ir.Node) -> list[ir.Value | None]:
    return [node.inputs[0], builder.constant(np.array([3]), "other_axis")]


WRONG = [
    pytest.param(CONV, redraw("Conv", nudged(1e-6)), id="a-weight-of-a-millionth-more"),
    pytest.param(CONV, redraw("Conv", nudged(1e-4), rounds=True), id="more-than-rounding-in-a-weight"),
    pytest.param(CONV, redraw("Conv", nudged(0.01, 2), rounds=True), id="a-bias"),
    pytest.param(CONV, redraw("Conv", lambda _, node: list(node.inputs[:2])), id="no-bias"),
    pytest.param(MINUS, redraw("Sub", lambda _, node: [node.inputs[1], node.inputs[0]]), id="two-inputs-swapped"),
    pytest.param(MINUS, redraw("Sub", lambda _, node: [node.inputs[0], node.inputs[0]]), id="one-input-twice"),
    pytest.param(MEAN, redraw("ReduceMean", along_the_other_axis), id="another-axis"),
]


@pytest.mark.parametrize(("text", "rule"), WRONG)
def test_a_wrong_rule_is_not_applied(text: str, rule: Rule) -> None:
    done = settled(text, rule)
    (reverted,) = done.log.reverted
    assert done.is_unchanged
    assert done.log.applied == []
    assert reverted.rule == rule.name
    assert reverted.error > reverted.tolerance > 0
    assert reverted.place in {value.name for node in done.model.graph for value in node.outputs}
    assert_same(done.raw, done.model)


def test_a_wrong_rule_is_reported_with_its_error() -> None:
    (reverted,) = settled(CONV, redraw("Conv", nudged(1e-6))).log.reverted
    assert reverted.tolerance == REWRITE.limit * REWRITE.floor
    assert 1e-8 < reverted.error < 1e-5


def test_what_rounding_explains_is_let_pass() -> None:
    """A recomputed weight may be off by its last place, and by no more than some."""
    model = model_of(CONV)
    prepare(model)
    once: list[ir.Node] = []

    def match(node: ir.Node, context: Context) -> MatchResult:
        if once:
            return None
        once.append(node)
        return redraw("Conv", nudged(2.0**-23)).match(node, context)

    log = apply_to_fixpoint(
        model, [Rule("round", frozenset({"Conv"}), match, recomputes_constants=True)], Context(20, Target.ANY)
    )
    assert (len(log.applied), log.reverted) == (1, [])
    assert 0 < log.applied[0].error < 8 * np.finfo(np.float32).eps


@pytest.mark.parametrize(
    ("dtype", "limit"),
    [
        (ir.DataType.FLOAT, 8 * 2.0**-23),
        (ir.DataType.DOUBLE, 8 * 2.0**-23),
        (ir.DataType.FLOAT16, 8 * 2.0**-10),
        (ir.DataType.BFLOAT16, 8 * 2.0**-8),
    ],
)
def test_the_limit_is_what_the_type_can_tell(dtype: ir.DataType, limit: float) -> None:
    old, new = ir.Value(name="old", type=ir.TensorType(dtype)), ir.Value(name="new")
    assert tolerance_of(Rewrite((), old, new), True) == pytest.approx(limit)
    assert tolerance_of(Rewrite((), old, new), False) == REWRITE.limit * REWRITE.floor


def test_a_wrong_rule_does_not_stop_the_others() -> None:
    double = graph("float[N, 4] x, float[N, 4] e", "float[N, 4] y", "n = Sub(x, e) m = Neg(n) y = Neg(m)")

    def cancel(node: ir.Node, _: Context) -> MatchResult:
        inner = node.inputs[0].producer() if node.inputs[0] is not None else None
        if inner is None or inner.op_type != "Neg":
            return None
        builder, old = Builder(), node.outputs[0]
        source = inner.inputs[0]
        assert source is not None
        return builder.rewrite((source,), old, builder.add("Identity", source, shape=old.shape, like=old))

    swap = redraw("Sub", lambda _, node: [node.inputs[1], node.inputs[0]])
    done = settled(double, swap, Rule("cancel", frozenset({"Neg"}), cancel))
    assert [node.op_type for node in done.model.graph] == ["Sub", "Identity"]
    assert len(done.log.reverted) == 1, "told once, however often the graph is swept"
    assert_same(done.raw, done.model)


def test_rules_that_undo_each_other_are_named() -> None:
    def becomes(op_type: str) -> Callable[[ir.Node, Context], MatchResult]:
        def match(node: ir.Node, _: Context) -> MatchResult:
            builder, old = Builder(), node.outputs[0]
            inputs = [builder.add("Neg", node.inputs[1], shape=old.shape, like=old)]
            new = builder.add(op_type, node.inputs[0], *inputs, shape=old.shape, like=old)
            return builder.rewrite(tuple(v for v in node.inputs if v is not None), old, new)

        return match

    there = Rule("subtract", frozenset({"Add"}), becomes("Sub"))
    back = Rule("add", frozenset({"Sub"}), becomes("Add"))
    model = model_of(MINUS)
    with pytest.raises(CleanupError, match="add and subtract keep firing") as caught:
        apply_to_fixpoint(model, [there, back], Context(20, Target.ANY))
    assert "report" in caught.value.hint


def test_an_operator_of_another_domain_is_reported_as_what_cannot_be_proved() -> None:
    text = MINUS.replace('["" : 20]', '["" : 20, "com.example" : 1]').replace(
        "y = Sub(x, e)", "s = com.example.Odd(x) y = Sub(s, e)"
    )
    model = model_of(text)

    def match(node: ir.Node, _: Context) -> MatchResult:
        builder, old = Builder(), node.outputs[0]
        inputs = tuple(model.graph.inputs)
        return builder.rewrite(inputs, old, builder.add("Sub", *inputs, shape=old.shape, like=old))

    log = apply_to_fixpoint(model, [Rule("drop the odd", frozenset({"Sub"}), match)], Context(20, Target.ANY))
    assert (log.applied, log.reverted) == ([], [])
    assert [miss.reason for miss in log.skipped] == [
        "it can't be verified: Odd of the domain com.example can't be run here"
    ]
    assert [node.op_type for node in model.graph] == ["Odd", "Sub"]


def test_a_rule_never_sees_an_operator_of_another_domain() -> None:
    text = MINUS.replace('["" : 20]', '["" : 20, "com.example" : 1]').replace("Sub(", "com.example.Sub(")

    def match(node: ir.Node, _: Context) -> MatchResult:
        raise AssertionError

    apply_to_fixpoint(model_of(text), [Rule("look", frozenset({"Sub"}), match)], Context(20, Target.ANY))


def test_a_refusal_is_reported_once_in_the_end() -> None:
    """However many rounds there were: near misses are those of the graph as it is left."""
    texts = "a = Neg(x) b = Neg(a) c = Neg(b) y = Sub(c, e)"
    refuse = Rule("refuse", frozenset({"Sub"}), lambda *_: Skip("not today"))

    def shorten(node: ir.Node, _: Context) -> MatchResult:
        inner = node.inputs[0].producer() if node.inputs[0] is not None else None
        if inner is None or inner.op_type != "Neg" or inner.inputs[0] is None:
            return None
        return Rewrite((inner.inputs[0],), node.outputs[0], inner.inputs[0])

    text = MINUS.replace("y = Sub(x, e)", texts)
    done = settled(text, refuse, Rule("shorten", frozenset({"Neg"}), shorten))
    assert [node.op_type for node in done.model.graph] == ["Neg", "Sub"]
    assert [(miss.rule, miss.reason) for miss in done.log.skipped] == [("refuse", "not today")]


def test_an_output_keeps_its_name_where_no_node_would_compute_it() -> None:
    def match(node: ir.Node, _: Context) -> MatchResult:
        source = node.inputs[0]
        return Rewrite((source,), node.outputs[0], source) if source is not None else None

    shorten = Rule("pass", frozenset({"Neg"}), match)
    done = settled(graph("float[N] x", "float[N] y", "y = Neg(x)"), shorten)
    assert done.reasons == ["the result is a graph output and must keep its name"]
    assert done.is_unchanged


def test_nodes_in_bodies_are_left_alone() -> None:
    text = graph(
        "float[N, 8, H, W] x, bool c",
        "float[N, 8, 1, 1] y",
        "y = If(c) <then_branch = t () => (float[N, 8, 1, 1] r) { r = ReduceMean(x, axes) }, "
        "else_branch = e () => (float[N, 8, 1, 1] q) { q = ReduceMax(x, axes) }>",
        "int64[2] axes = {2, 3}",
    )
    done = settled(text, *RULES)
    assert done.is_unchanged


@pytest.mark.parametrize("target", Target)
def test_an_empty_graph_has_nothing_to_clean(target: Target) -> None:
    model = model_of(graph("float[N] x", "float[N] y", "y = Relu(x)"))
    assert clean(model, target).applied == ()


def test_rules_have_names_of_their_own() -> None:
    rules = [
        *RULES,
        *INTEGER_RULES,
        *{rule.name: rule for shaping in TARGET_RULES.values() for rule in shaping}.values(),
    ]
    assert len({rule.name for rule in rules}) == len(rules)


def test_every_rule_file_is_in_the_list() -> None:
    """A rule that nobody applies is tested in vain."""
    from pathlib import Path

    from attn_export.exporter.cleanup import rules

    files = {path.stem for path in Path(rules.__path__[0]).glob("*.py")} - {"__init__"}
    every = (*RULES, *INTEGER_RULES, *sum(TARGET_RULES.values(), ()))
    listed = {rule.match.__module__.rsplit(".", 1)[-1] for rule in every}
    assert listed == files


def test_an_undone_rewrite_reaches_the_report_of_the_cleanup() -> None:
    model = model_of(CONV)
    cleaned = clean(model, Target.ANY, [redraw("Conv", nudged(1e-6))])
    assert [reverted.rule for reverted in cleaned.reverted] == ["spoil Conv"]
    assert serialized(model)
