"""Both parts are run in float64 at two shapes; what was proven once and holds no weights isn't run again."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from attn_export.exporter.artifacts import Target
from attn_export.exporter.cleanup import proof
from attn_export.exporter.cleanup.apply import apply_to_fixpoint
from attn_export.exporter.cleanup.pipeline import prepare
from attn_export.exporter.cleanup.proof import Prover, Unprovable, cut
from attn_export.exporter.cleanup.rule import Builder, Context, Rewrite
from attn_export.exporter.cleanup.rules import fold_batch_norm, pool_in_one_form
from attn_export.exporter.records.policies import REWRITE
from tests.cleanup.conftest import graph, model_of

EXACT = REWRITE.limit * REWRITE.floor
POOL, FOLD = pool_in_one_form.RULE, fold_batch_norm.RULE
Runs = list[list[tuple[int, ...]]]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """The shapes of what the evaluator was given, run by run."""
    seen: Runs = []
    run = ReferenceEvaluator.run

    def counted(self: ReferenceEvaluator, names: Any, feeds: dict[str, Any], *rest: Any, **more: Any) -> Any:
        assert {array.dtype for array in feeds.values()} <= {np.dtype("float64"), np.dtype("int64"), np.dtype("bool")}
        seen.append([array.shape for array in feeds.values()])
        return run(self, names, feeds, *rest, **more)

    monkeypatch.setattr(ReferenceEvaluator, "run", counted)
    return seen


def prepared(text: str) -> ir.Model:
    model = model_of(text)
    prepare(model)
    return model


def pools(count: int, *, sizes: str = "N, 8, H, W") -> str:
    """Of as many maps, of these sizes."""
    inputs = ", ".join(f"float[{sizes}] x{i}" for i in range(count))
    outputs = ", ".join(f"float[N, 8, 1, 1] y{i}" for i in range(count))
    return graph(inputs, outputs, " ".join(f"y{i} = GlobalAveragePool(x{i})" for i in range(count)))


def folds(channels: int, count: int = 2) -> str:
    """As many convolutions of their own weights, with BatchNorm."""
    body = " ".join(f"c{i} = Conv(x, w{i}) y{i} = BatchNormalization(c{i}, s, b, mean, var)" for i in range(count))
    n = channels
    weights = ", ".join(f"float[{n}, {n}, 1, 1] w{i} = random" for i in range(count))
    norm = ", ".join(f"float[{n}] {name} = random" for name in ("s", "b", "mean", "var"))
    outputs = ", ".join(f"float[N, {n}, H, W] y{i}" for i in range(count))
    return graph(f"float[N, {n}, H, W] x", outputs, body, f"{weights}, {norm}")


def fired(model: ir.Model, rule: Any) -> int:
    return len(apply_to_fixpoint(model, [rule], Context(20, Target.ANY)).applied)


def test_the_proof_is_run_at_two_shapes(runs: Runs) -> None:
    assert fired(prepared(pools(1)), POOL) == 1
    assert len(runs) == 4, "two parts, two shapes"
    assert len({shapes[0] for shapes in runs}) == 2
    assert all(shape[2] != shape[3] for shapes in runs for shape in shapes if len(shape) == 4), "none is square"


def test_known_sizes_stay(runs: Runs) -> None:
    assert fired(prepared(folds(8, 1)), FOLD) == 1
    assert {shapes[0][1] for shapes in runs} == {8}


def test_a_part_without_weights_is_proven_once(runs: Runs) -> None:
    assert fired(prepared(pools(5)), POOL) == 5
    assert len(runs) == 4


def test_other_sizes_are_another_proof(runs: Runs) -> None:
    model = prepared(
        graph(
            "float[N, 8, H, W] x, float[N, 6, H, W] e",
            "float[N, 8, 1, 1] y, float[N, 6, 1, 1] z",
            "y = GlobalAveragePool(x) z = GlobalAveragePool(e)",
        )
    )
    assert fired(model, POOL) == 2
    assert len(runs) == 8


@pytest.mark.parametrize("channels", [4, 64])
def test_other_weights_are_proven_each_for_itself(channels: int, runs: Runs) -> None:
    assert fired(prepared(folds(channels)), FOLD) == 2
    assert len(runs) == 8


def test_weights_are_never_remembered() -> None:
    model = prepared(folds(64, 1))
    node = next(node for node in model.graph if node.op_type == "BatchNormalization")
    rewrite = FOLD.match(node, Context(20, Target.ANY))
    assert isinstance(rewrite, Rewrite)
    prover = Prover(20)
    assert 0 < prover.error_of(rewrite) < 1e-6
    assert prover.known == {}


def test_a_prover_knows_its_own_graph_only(runs: Runs) -> None:
    for _ in range(2):
        fired(prepared(pools(1)), POOL)
    assert len(runs) == 8


def rewritten(text: str, new: Callable[[Builder, ir.Model], ir.Value], inputs: tuple[str, ...] = ("x",)) -> Rewrite:
    """What stands at y, to be replaced by something."""
    model = prepared(text)
    values = {value.name: value for value in model.graph.inputs}
    builder = Builder()
    return builder.rewrite(tuple(values[name] for name in inputs), model.graph.outputs[0], new(builder, model))


def same_operator(op_type: str, **attributes: Any) -> Callable[[Builder, ir.Model], ir.Value]:
    def draw(builder: Builder, model: ir.Model) -> ir.Value:
        old = model.graph.outputs[0]
        return builder.add(op_type, model.graph.inputs[0], shape=old.shape, like=old, **attributes)

    return draw


def test_an_exact_form_has_no_error() -> None:
    assert (
        Prover(20).error_of(rewritten(graph("float[N, 4] x", "float[N, 4] y", "y = Relu(x)"), same_operator("Relu")))
        == 0
    )


def test_another_function_has_an_error() -> None:
    text = graph("float[N, 4] x", "float[N, 4] y", "y = HardSigmoid(x)")
    assert Prover(20).error_of(rewritten(text, same_operator("HardSigmoid", alpha=0.2, beta=0.5))) <= EXACT
    assert Prover(20).error_of(rewritten(text, same_operator("HardSigmoid", alpha=0.2001, beta=0.5))) > 1e-5
    assert Prover(20).error_of(rewritten(text, same_operator("Sigmoid"))) > 1e-3


def test_another_shape_is_infinitely_wrong() -> None:
    text = graph("float[N, 4, 1] x", "float[N, 4] y", "y = Squeeze(x, two)", "int64[1] two = {2}")
    assert Prover(20).error_of(rewritten(text, same_operator("Identity"))) == np.inf


def test_results_that_are_not_finite_prove_nothing() -> None:
    text = graph("float[N, 4] x", "float[N, 4] y", "z = Sub(x, x) y = Div(x, z)")
    with np.errstate(all="ignore"):
        assert Prover(20).error_of(rewritten(text, same_operator("Neg"))) == np.inf


def test_float16_is_proven_in_float64() -> None:
    """In float16 a rounding of a ten-thousandth would hide what differs."""
    text = graph("float16[N, 4] x", "float16[N, 4] y", "a = Cast <to = 1> (x) b = Sigmoid(a) y = Cast <to = 10> (b)")
    assert Prover(20).error_of(rewritten(text, same_operator("Sigmoid"))) <= EXACT
    assert Prover(20).error_of(rewritten(text, same_operator("HardSigmoid", alpha=0.25))) > EXACT


@pytest.mark.parametrize(
    ("declared", "body", "reason"),
    [
        ("float[] x", "y = Relu(x)", "rank isn't known"),
        ("int64[N] x", "y = Abs(x)", "floating type"),
        ("bool[N] x", "y = Not(x)", "floating type"),
    ],
)
def test_inputs_that_nothing_can_stand_for_prove_nothing(declared: str, body: str, reason: str) -> None:
    kind = declared.split("[")[0]
    rewrite = rewritten(graph(declared, f"{kind}[A] y", body), same_operator("Identity"))
    with pytest.raises(Unprovable, match=reason):
        Prover(20).error_of(rewrite)


def test_a_result_from_nowhere_proves_nothing() -> None:
    text = graph("float[N] x, float[N] e", "float[N] y", "y = Relu(x)")
    rewrite = rewritten(text, lambda _, model: model.graph.inputs[1])
    with pytest.raises(Unprovable, match="isn't one of its inputs"):
        Prover(20).error_of(rewrite)


def test_what_the_new_part_reads_elsewhere_proves_nothing() -> None:
    text = graph("float[N] x, float[N] e", "float[N] y", "y = Relu(x)")

    def draw(builder: Builder, model: ir.Model) -> ir.Value:
        return builder.add("Relu", model.graph.inputs[1], shape=("N",), like=model.graph.inputs[1])

    with pytest.raises(Unprovable):
        Prover(20).error_of(rewritten(text, draw))


def test_a_cut_ends_at_its_inputs_and_at_shapes() -> None:
    text = graph(
        "float[N, 8, H, W] x, float[N, 8, 1, 1] g",
        "float[N, 8, H, W] y",
        "a = Relu(x) s = Shape(a) b = Neg(g) e = Expand(b, s) y = Neg(e)",
    )
    model = model_of(text)
    nodes, further = cut(model.graph.outputs[0], [model.graph.node(2).outputs[0]])
    assert [node.op_type for node in nodes] == ["Shape", "Expand", "Neg"]
    assert [value.name for value in further] == ["a"]


def test_large_maps_are_proven_small(runs: Runs) -> None:
    """Their size is nothing to a pool: the evaluator would take seconds for 512 x 512."""
    text = graph("float[1, 8, 512, 512] x", "float[1, 8, 1, 1] y", "y = GlobalMaxPool(x)")
    assert fired(prepared(text), POOL) == 1
    assert max(np.prod(shape) for shapes in runs for shape in shapes) < 1000


def test_a_size_that_is_written_in_the_graph_is_used(runs: Runs) -> None:
    text = graph("float[1, 8, 12, 10] x", "float[1, 8, 1, 1] y", "y = AveragePool <kernel_shape = [12, 10]> (x)")
    assert fired(prepared(text), POOL) == 1
    assert (1, 8, 12, 10) in {shape for shapes in runs for shape in shapes}


@pytest.mark.parametrize("opset", [11, 13, 14, 20])
def test_batch_norm_is_what_it_is_at_inference(opset: int) -> None:
    """Both sides of a proof have to be run as runtimes run them, whatever the opset."""
    text = graph(
        "float[N, 4, H, W] x",
        "float[N, 4, H, W] y",
        "y = BatchNormalization <epsilon = 0.0> (x, one, zero, zero, one)",
        "float[4] one = {1, 1, 1, 1}, float[4] zero = {0, 0, 0, 0}",
        opset=opset,
    )
    assert Prover(opset).error_of(rewritten(text, same_operator("Identity"))) <= EXACT


def test_noise_is_the_same_every_time() -> None:
    assert np.array_equal(proof._noise(0), proof._noise.__wrapped__(0))
    assert not np.array_equal(proof._noise(0), proof._noise(1))
