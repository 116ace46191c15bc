"""The comparison with the parent: a wire that goes elsewhere is found, and what can't be run is said to be missed."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from attn_export.exporter.cleanup.pipeline import clean
from attn_export.exporter.errors import CleanupError, InputError, UsageError
from attn_export.exporter.graph.read import read
from attn_export.exporter.network.images import PICTURES
from attn_export.exporter.records.verdict import Verdict
from attn_export.exporter.system.progress import NullProgress
from attn_export.exporter.validation.inner_tensors import Tensor
from attn_export.exporter.validation.metrics import difference
from attn_export.exporter.validation.source_graph import (
    SourceRun,
    compare_with_source,
    run_perturbed,
    run_source,
)
from attn_export.exporter.workflows import clean as cleaning
from attn_export.exporter.workflows.clean import clean_file
from tests.cleanup.spellings import SE_NODES_OF, SPELLINGS, Network, Way, export, noise, parsed, se_weights

HEADER = '<ir_version: 8, opset_import: ["" : 17, "my.ops" : 1]>'
MAP = "float[N, 16, 12, 12]"
SE_TEXT = f"{HEADER} g ({MAP} x) => ({MAP} y) {{ {SE_NODES_OF.format(source='x')} }}"
OLDER = b"an older result"
Asked = Callable[..., tuple[SourceRun, ...] | str]
Compared = Callable[..., Verdict]


class Ear(NullProgress):
    """Collects notes."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def note(self, message: str) -> None:
        self.heard.append(message)


def one(number: float) -> Any:
    """A scalar."""
    return np.array(number, np.float32)


def never(_: SourceRun) -> Mapping[Tensor, Any]:
    raise AssertionError("a few roundings explain the difference")


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    """``asked(text, name=array, ...)`` is what ONNX Runtime answers to that model."""

    def question(text: str, **weights: Any) -> tuple[SourceRun, ...] | str:
        onnx.save(parsed(text, **weights), tmp_path / "parent.onnx")
        return run_source(read(tmp_path / "parent.onnx"), tmp_path, 1)

    return question


@pytest.fixture
def compared(tmp_path: Path, asked: Asked) -> Compared:
    """``compared(parent, child, weights, weights of the child)`` is how the two stand to each other."""

    def comparison(parent: str, child: str, weights: Any = None, others: Any = None) -> Verdict:
        answers = asked(parent, **(weights or {}))
        assert not isinstance(answers, str), answers
        onnx.save(parsed(child, **(weights if others is None else others) or {}), tmp_path / "child.onnx")

        def moved(source: SourceRun) -> Mapping[Tensor, Any]:
            return run_perturbed(source, read(tmp_path / "parent.onnx"), tmp_path, 1)

        verdict = compare_with_source(answers, read(tmp_path / "child.onnx"), tmp_path, 1, moved)
        assert isinstance(verdict, Verdict), verdict
        return verdict

    return comparison


# Wiring faults, in files.


def swapped_input(model: ir.Model) -> None:
    """The second gate multiplies the map before the first."""
    products = [n for n in model.graph if n.op_type == "Mul"]
    products[1].replace_input_with(0, products[0].inputs[0])


def wrong_weight(model: ir.Model) -> None:
    first, second = [n for n in model.graph if n.op_type == "Conv" and n.inputs[1].shape == (16, 16, 3, 3)][:2]  # type: ignore[union-attr]
    first.replace_input_with(1, second.inputs[1])


def other_bias(model: ir.Model) -> None:
    conv = next(n for n in model.graph if n.op_type == "Conv" and len(n.inputs) > 2)
    tensor = conv.inputs[2].const_value  # type: ignore[union-attr]
    assert tensor is not None
    array = tensor.numpy().copy()
    array[0] += 0.01
    conv.inputs[2].const_value = ir.tensor(array, name=tensor.name)  # type: ignore[union-attr]


def dropped(op_type: str, which: int = 0) -> Callable[[ir.Model], None]:
    def drop(model: ir.Model) -> None:
        node = [n for n in model.graph if n.op_type == op_type][which]
        source = node.inputs[0]
        assert source is not None
        ir.convenience.replace_all_uses_with(node.outputs[0], source)
        model.graph.remove(node, safe=True)

    return drop


def mean_for_maximum(model: ir.Model) -> None:
    next(n for n in model.graph if n.op_type == "ReduceMax").op_type = "ReduceMean"


def exchanged_summaries(model: ir.Model) -> None:
    both = next(n for n in model.graph if n.op_type == "Concat")
    first, second = both.inputs
    both.replace_input_with(0, second)
    both.replace_input_with(1, first)


FAULTS: dict[str, Callable[[ir.Model], None]] = {
    "a swapped input": swapped_input,
    "a wrong weight": wrong_weight,
    "a changed bias": other_bias,
    "a dropped Relu": dropped("Relu"),
    "a dropped Relu in a gate": dropped("Relu", 2),
    "a dropped Sigmoid": dropped("Sigmoid", 1),
    "the mean for the maximum": mean_for_maximum,
    "exchanged summaries": exchanged_summaries,
}


@pytest.fixture(scope="module")
def cbam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = Network(SPELLINGS[21], SPELLINGS[21])
    return export(network, tmp_path_factory.mktemp("lineage") / "model.onnx", Way("legacy", 17))


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_in_the_child_is_found_and_no_file_written(
    cbam: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[[ir.Model], None]
) -> None:
    def clean_and_break(model: ir.Model, *rest: Any) -> Any:
        done = clean(model, *rest)
        fault(model)
        return done

    monkeypatch.setattr(cleaning, "clean", clean_and_break)
    out = tmp_path / "clean.onnx"
    out.write_bytes(OLDER)
    with pytest.raises(CleanupError, match=r"doesn't compute what .* computes: output differs by") as caught:
        clean_file(cbam, out, threads=1)
    assert caught.value.exit_code == 4
    assert out.read_bytes() == OLDER
    assert [path.name for path in tmp_path.iterdir()] == ["clean.onnx"]


def test_a_child_that_is_no_graph_any_more_is_found(
    cbam: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clean_and_break(model: ir.Model, *rest: Any) -> Any:
        done = clean(model, *rest)
        next(n for n in model.graph if n.op_type == "Relu").op_type = "Rleu"
        return done

    monkeypatch.setattr(cleaning, "clean", clean_and_break)
    with pytest.raises(CleanupError, match="not valid ONNX"):
        clean_file(cbam, tmp_path / "clean.onnx", threads=1)
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_doesnt_run_is_found(cbam: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def clean_and_break(model: ir.Model, *rest: Any) -> Any:
        done = clean(model, *rest)
        conv = next(n for n in model.graph if n.op_type == "Conv")
        conv.replace_input_with(1, next(v for v in model.graph.initializers.values() if v.shape == (4, 16, 1, 1)))
        return done

    monkeypatch.setattr(cleaning, "clean", clean_and_break)
    with pytest.raises(CleanupError, match="doesn't run"):
        clean_file(cbam, tmp_path / "clean.onnx", threads=1)
    assert list(tmp_path.iterdir()) == []


# Wiring faults, in small graphs.


def test_a_graph_agrees_with_itself(compared: Compared) -> None:
    verdict = compared(SE_TEXT, SE_TEXT, se_weights())
    assert verdict.agrees
    assert verdict.worst.error == 0.0


def test_the_order_in_which_a_map_is_added_up_is_no_difference(compared: Compared) -> None:
    """Roundings of pixels cancel out in the sum, and those of the sum make large logits differ."""
    pooled = "c = Clip(x, low, high)  s = ReduceSum<axes = [2, 3]>(c)  z = Add(c, s)"
    one = f"{HEADER} g ({MAP} x) => ({MAP} y) {{ {pooled}  {SE_NODES_OF.format(source='z')} }}"
    one = one.replace(": 17", ": 12").replace("Mul(x, g)", "Mul(z, g)")
    other = one.replace("GlobalAveragePool(z)", "ReduceMean<axes = [2, 3]>(z)")
    weights = se_weights() | {"low": np.array(-1, np.float32), "high": np.array(1, np.float32)}
    assert compared(one, other, weights).agrees
    slightly = weights | {"w2": weights["w2"] * np.float32(1.001)}
    assert not compared(one, one, weights, slightly).agrees


def test_the_order_of_a_sum_is_no_difference(compared: Compared) -> None:
    one = f"{HEADER} g ({MAP} x) => ({MAP} y) {{ a = Mul(x, three)  b = Exp(x)  s = Add(a, b)  y = Add(s, x) }}"
    other = one.replace("s = Add(a, b)  y = Add(s, x)", "t = Add(b, x)  y = Add(t, a)")
    verdict = compared(one, other, {"three": np.array(3, np.float32)})
    assert verdict.agrees
    assert 0 < (verdict.worst.error or 0.0) < 1e-6


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("y = Sub(x, w)", "y = Sub(w, x)"),
        ("a = Relu(x)  y = Mul(a, w)", "y = Mul(x, w)"),
        ("a = Softmax<axis = 1>(x)  y = Mul(a, w)", "a = Softmax<axis = 2>(x)  y = Mul(a, w)"),
        ("y = Mul(x, w)", "a = Mul(x, w)  y = Clip(a, low)"),
    ],
)
def test_small_faults_are_large_differences(compared: Compared, right: str, wrong: str) -> None:
    weights = {"w": noise(1, 16, 1, 1), "low": np.array(-0.5, np.float32)}
    texts = [f"{HEADER} g ({MAP} x) => ({MAP} y) {{ {nodes} }}" for nodes in (right, wrong)]
    verdict = compared(*texts, weights)
    assert not verdict.agrees
    assert verdict.worst.severity > 1000
    assert verdict.worst.tensor == "y"


def test_a_weight_that_is_slightly_off_is_found(compared: Compared) -> None:
    weights = se_weights()
    others = {**weights, "w2": weights["w2"] * np.float32(1.003)}
    assert not compared(SE_TEXT, SE_TEXT, weights, others).agrees


TWO = f"{HEADER} g ({MAP} x) => ({MAP} y, int64[N, 1, 12, 12] places) {{{{ y = Sigmoid({{0}})  {{1}} }}}}"
PLACES = "t = Mul(x, thousand)  places0 = ArgMax<axis = 1>(t)  places = Add(places0, offset)"


def of_two(values: str = "x", places: str = PLACES) -> str:
    return TWO.format(values, places)


def test_the_worst_of_several_outputs_is_named(compared: Compared) -> None:
    weights = {"thousand": np.array(1000, np.float32), "offset": np.array(0)}
    assert compared(of_two(), of_two(), weights).agrees
    assert compared(of_two(), of_two("t"), weights).worst.tensor == "y"
    verdict = compared(of_two(), of_two(places=PLACES.replace("ArgMax", "ArgMin")), weights)
    assert (verdict.worst.tensor, verdict.agrees) == ("places", False)


def test_whole_numbers_have_to_be_equal_even_where_other_outputs_are_rounded_elsewhere(compared: Compared) -> None:
    """One of a large number: relative to what is allowed for floats a small difference, and yet one."""
    nodes = "a = Add(x, one)  b = Add(a, two)"
    right = of_two("b", f"{nodes}  {PLACES}")
    wrong = of_two("b", f"a = Add(x, two)  b = Add(a, one)  {PLACES}")
    weights = {
        "thousand": np.array(1000, np.float32),
        "offset": np.array(10_000),
        "one": np.array(0.1, np.float32),
        "two": np.array(0.7, np.float32),
    }
    verdict = compared(right, wrong, weights, {**weights, "offset": np.array(10_001)})
    assert not verdict.agrees
    assert verdict.worst.tensor == "places"


def test_an_output_that_is_gone_is_found(compared: Compared) -> None:
    weights = {"thousand": np.array(1000, np.float32), "offset": np.array(0)}
    assert not compared(of_two(), f"{HEADER} g ({MAP} x) => ({MAP} y) {{ y = Sigmoid(x) }}", weights, {}).agrees


def test_a_sensitive_graph_is_judged_by_its_own_sensitivity(compared: Compared) -> None:
    """exp of a thousand times x: one rounding of the input moves the result by more than a fixed limit allows."""
    text = f"{HEADER} g ({MAP} x) => ({MAP} y) {{ a = Mul(x, w)  b = Sin(a)  y = Mul(b, b) }}"
    large = np.array(20_000, np.float32)
    moved = np.nextafter(large, np.float32(0))
    assert compared(text, text, {"w": large}, {"w": moved}).agrees
    assert not compared(text, text, {"w": large}, {"w": large * np.float32(1.5)}).agrees


def test_the_sensitivity_is_not_asked_for_in_vain(asked: Asked, tmp_path: Path) -> None:
    answers = asked(SE_TEXT, **se_weights())
    assert not isinstance(answers, str)
    verdict = compare_with_source(answers, read(tmp_path / "parent.onnx"), tmp_path, 1, never)
    assert isinstance(verdict, Verdict)
    assert verdict.agrees


def test_places_of_nan_and_infinity_have_to_be_the_same(compared: Compared) -> None:
    text = f"{HEADER} g ({MAP} x) => ({MAP} y) {{ y = Log(x) }}"
    assert compared(text, text).agrees
    assert not compared(text, text.replace("y = Log(x)", "a = Abs(x)  y = Log(a)")).agrees
    assert not compared(text.replace("Log", "Exp"), text).agrees


@pytest.mark.parametrize(
    ("got", "expected", "apart"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([1e-30, 0.0], [0.0, 0.0], np.inf),
        ([3.0, 4.0], [6.0, 8.0], 0.5),
        ([np.nan, 1.0], [np.nan, 1.0], 0.0),
        ([np.inf, 1.0], [np.inf, 1.0], 0.0),
        ([-np.inf, 1.0], [np.inf, 1.0], np.inf),
        ([np.nan, 1.0], [1.0, 1.0], np.inf),
        ([1.0], [1.0, 1.0], np.inf),
        ([], [], 0.0),
        (["a"], ["a"], 0.0),
        (["a"], ["b"], np.inf),
        ([True, False], [True, False], 0.0),
    ],
)
def test_differences_of_arrays(got: list[Any], expected: list[Any], apart: float) -> None:
    answer = difference(np.array(got), np.array(expected))
    assert answer == pytest.approx(apart) or (np.isnan(answer) and not np.isfinite(apart))
    assert (answer <= 1e-3) is (apart <= 1e-3)


# Outputs that only some inputs move, and inner tensors.

SATURATED = f"{HEADER} g ({MAP} x) => ({MAP} y) {{{{ a = Mul(x, {{0}})  b = Sub(a, far)  y = Sigmoid(b) }}}}"


def test_an_output_that_no_input_moves_has_no_power(compared: Compared) -> None:
    """A sigmoid of -150 is 0 whatever goes in, so a wrong weight changes nothing."""
    verdict = compared(
        SATURATED.format("w"), SATURATED.format("v"), {name: noise(16, 1, 1) for name in "wv"} | {"far": one(150)}
    )
    assert verdict.agrees
    assert verdict.powerless == ("y",)


def test_a_run_without_power_doesnt_excuse_one_that_has_it(compared: Compared) -> None:
    """Like a text detector: only letters lift the result above numbers that rounding changes."""
    chaos = "a = Mul(x, many)  b = Sin(a)  c = Mul(b, few)"
    text = (
        f"{HEADER} g ({MAP} x) => ({MAP} y) {{ {chaos}  d = Sub(x, high)  e = Relu(d)  f = Mul(e, w)  y = Add(c, f) }}"
    )
    weights = {"many": one(3e5), "few": one(1e-4), "high": one(2.4), "w": one(1.0)}
    moved = {**weights, "many": np.nextafter(weights["many"], np.float32(0))}
    (worst,) = (c for c in compared(text, text, weights, moved).comparisons if c.role == "output")
    assert worst.has_power
    assert compared(text, text, {**weights, "w": one(0.0)}, {**moved, "w": one(0.0)}).powerless == ("y",)
    assert not compared(text, text, weights, {**weights, "w": one(1.02)}).agrees


def test_what_hardly_answers_an_input_is_judged_by_its_own_scale(compared: Compared) -> None:
    """ONNX Runtime's sigmoid is right to 3e-8, absolute: of a result of 1e-7 that is a third."""
    nodes = "a = Sub(x, high)  b = Mul(a, many)  c = Exp(b)  d = Mul(x, {})  y = Add(c, d)"
    small, other = (f"{HEADER} g ({MAP} x) => ({MAP} y) {{ {nodes.format(name)} }}" for name in ("few", "fewer"))
    weights = {"high": one(2.0), "many": one(8.0), "few": one(1e-9), "fewer": one(2e-9)}
    assert compared(small, other, weights).agrees
    assert not compared(small, other.replace("many", "high"), weights).agrees


def test_a_fault_that_the_output_hides_is_found_in_the_gate(compared: Compared) -> None:
    hidden = SE_TEXT.replace("}", " z = Mul(y, none) }").replace(f"({MAP} y)", f"({MAP} z)")
    weights = {**se_weights(), "none": one(0.0)}
    verdict = compared(hidden, hidden, weights)
    assert verdict.agrees
    assert {c.role for c in verdict.comparisons} == {"gate", "block", "output"}
    assert verdict.powerless == ("z",)
    found = compared(hidden, hidden, weights, {**weights, "w1": weights["w1"] * np.float32(1.01)}).first_disagreement
    assert found is not None
    assert (found.tensor, found.role) == ("y", "gate")


def test_gates_without_a_counterpart_are_counted(compared: Compared) -> None:
    without = f"{HEADER} g ({MAP} x) => ({MAP} y) {{ y = Mul(x, x) }}"
    assert compared(SE_TEXT, without, se_weights(), {}).gates_missed.startswith("1 of 1 ")
    assert compared(SE_TEXT, SE_TEXT, se_weights()).gates_missed == ""


def test_an_output_without_power_is_noted(tmp_path: Path) -> None:
    ear = Ear()
    onnx.save(parsed(SATURATED.format("w"), far=one(150), w=one(2)), tmp_path / "a.onnx")
    result = clean_file(tmp_path / "a.onnx", tmp_path / "b.onnx", threads=1, progress=ear)
    assert result.verdict is not None
    assert result.verdict.powerless == ("y",)
    (note,) = ear.heard
    assert "comparing y proves little" in note


def test_images_of_the_user_move_it(tmp_path: Path) -> None:
    ear = Ear()
    text = SATURATED.format("thousand").replace("a = Mul", "t = Relu(x)  a = Mul").replace("Mul(x,", "Mul(t,")
    onnx.save(parsed(text, far=one(150), thousand=one(1.0)), tmp_path / "a.onnx")
    images = np.abs(noise(2, 16, 12, 12)) + np.float32(149)
    np.save(tmp_path / "images.npy", images.astype(np.float16))
    result = clean_file(
        tmp_path / "a.onnx", tmp_path / "b.onnx", threads=1, progress=ear, images=tmp_path / "images.npy"
    )
    assert result.verdict is not None
    assert (result.verdict.powerless, ear.heard) == ((), [])
    assert result.verdict.images == len(PICTURES) + 2 + 1


def test_images_that_dont_fit_are_refused(tmp_path: Path) -> None:
    onnx.save(parsed(SE_TEXT, **se_weights()), tmp_path / "a.onnx")
    np.save(tmp_path / "images.npy", noise(1, 3, 12, 12))
    with pytest.raises(InputError, match=r"images of \(1, 3, 12, 12\)"):
        clean_file(tmp_path / "a.onnx", tmp_path / "b.onnx", images=tmp_path / "images.npy")
    assert not (tmp_path / "b.onnx").exists()


def test_images_of_a_size_that_the_graph_doesnt_take_are_refused(tmp_path: Path) -> None:
    text = f"{HEADER} g (float[N, 3, H, W] x) => (float[N, 3, A, B] y) {{ y = AveragePool<kernel_shape = [9, 9]>(x) }}"
    onnx.save(parsed(text), tmp_path / "a.onnx")
    np.save(tmp_path / "images.npy", noise(1, 3, 4, 4))
    with pytest.raises(InputError, match="these images"):
        clean_file(tmp_path / "a.onnx", tmp_path / "b.onnx", images=tmp_path / "images.npy")


def test_images_of_a_graph_without_inputs_are_refused(tmp_path: Path) -> None:
    onnx.save(
        parsed(f"{HEADER} g () => (float[2] y) {{ y = Constant<value_floats = [1.0, 2.0]>() }}"), tmp_path / "a.onnx"
    )
    with pytest.raises(UsageError, match="no input"):
        clean_file(tmp_path / "a.onnx", tmp_path / "b.onnx", images=tmp_path / "images.npy")


def test_images_of_several_inputs_are_named(tmp_path: Path) -> None:
    onnx.save(parsed(f"{HEADER} g ({MAP} x, {MAP} z) => ({MAP} y) {{ y = Add(x, z) }}"), tmp_path / "a.onnx")
    np.savez(tmp_path / "images.npz", x=noise(2, 16, 12, 12), z=noise(2, 16, 12, 12))
    images = tmp_path / "images.npz"
    result = clean_file(tmp_path / "a.onnx", tmp_path / "b.onnx", threads=1, images=images)
    assert result.verdict is not None
    assert result.verdict.images == len(PICTURES) + 2 + 1


# What is fed.


@pytest.mark.parametrize(
    ("kind", "nodes"),
    [
        ("int64[N, 4]", "y = Gather(table, i)"),
        ("int32[N, 4]", "y = Gather(table, i)"),
        ("uint8[N, 4]", "c = Cast<to = 7>(i)  y = Gather(table, c)"),
        ("int8[N, 4]", "c = Cast<to = 7>(i)  y = Gather(table, c)"),
        ("bool[N, 4]", "c = Cast<to = 7>(i)  y = Gather(table, c)"),
        ("double[N, 4]", "c = Cast<to = 1>(i)  y = Unsqueeze(c, last)"),
        ("float16[N, 4]", "c = Cast<to = 1>(i)  y = Unsqueeze(c, last)"),
    ],
)
def test_inputs_of_other_types_are_made(asked: Asked, kind: str, nodes: str) -> None:
    weights = {"table": noise(2, 3)} if "table" in nodes else {"last": np.array([2])}
    answers = asked(f"{HEADER} g ({kind} i) => (float[N, 4, S] y) {{ {nodes} }}", **weights)
    assert not isinstance(answers, str), answers
    assert np.isfinite(answers[0].tensors[Tensor("output", "y")]).all()


@pytest.mark.parametrize(("kernel", "side"), [(7, 64), pytest.param(70, 224, marks=pytest.mark.full)])
def test_an_open_size_is_tried_until_the_graph_runs(asked: Asked, kernel: int, side: int) -> None:
    pool = f"y = AveragePool<kernel_shape = [{kernel}, {kernel}]>(x)"
    answers = asked(f"{HEADER} g (float[N, 3, H, W] x) => (float[N, 3, A, B] y) {{ {pool} }}")
    assert not isinstance(answers, str)
    shapes = [run.feeds["x"].shape for run in answers]
    assert shapes == [*[(1, 3, side, side)] * len(PICTURES), (5, 3, side + 32, side + 64)]


def test_a_size_that_fits_nothing_is_a_reason(asked: Asked) -> None:
    text = f"{HEADER} g (float[N, 3, H, W] x) => (float[N, 5] y) {{ f = Reshape(x, s)  y = MatMul(f, w) }}"
    answers = asked(text, s=np.array([0, 3 * 20 * 20]), w=noise(1200, 5))
    assert isinstance(answers, str)
    assert "can't run the file on random inputs" in answers


def test_weights_that_are_inputs_are_not_replaced_by_noise(asked: Asked) -> None:
    answers = asked(f"{HEADER} g ({MAP} x, float[16, 1, 1] w) => ({MAP} y) {{ y = Mul(x, w) }}", w=noise(16, 1, 1))
    assert not isinstance(answers, str)
    assert set(answers[0].feeds) == {"x"}


# What is missed.

NEVER = "f = Constant<value_ints = [0, 1200]>()  y = Reshape(x, f)"
MISSED = {
    "an operator that nobody has": (f"{HEADER} g ({MAP} x) => ({MAP} y) {{ y = my.ops.Magic(x) }}", "doesn't take"),
    "words": (f"{HEADER} g (string[N] x) => (string[N] y) {{ y = Identity(x) }}", "STRING"),
    "a size that never fits": (f"{HEADER} g (float[N, 3, H, W] x) => (float[N, A] y) {{ {NEVER} }}", "can't run"),
}


@pytest.mark.parametrize(("text", "reason"), MISSED.values(), ids=MISSED.keys())
def test_what_cant_be_run_is_missed_and_written(tmp_path: Path, text: str, reason: str) -> None:
    onnx.save(parsed(text), tmp_path / "a.onnx")
    result = clean_file(tmp_path / "a.onnx", tmp_path / "b.onnx", threads=1)
    assert result.not_compared
    assert reason in result.not_compared
    assert "\n" not in result.not_compared
    assert result.verdict is None
    assert (tmp_path / "b.onnx").exists()


def test_what_is_missed_is_noted(tmp_path: Path) -> None:
    ear = Ear()
    onnx.save(parsed(MISSED["an operator that nobody has"][0]), tmp_path / "a.onnx")
    clean_file(tmp_path / "a.onnx", tmp_path / "b.onnx", threads=1, progress=ear)
    (note,) = ear.heard
    assert "not compared with its parent" in note
