"""Small graphs as text, taken through a rule, and what is to be true of every rule.

A graph's text may say ``float[4, 8, 1, 1] w = random`` where the numbers don't matter, and ``float16`` constants, which
ONNX's own syntax has no literals for.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from attn_export.exporter.artifacts import Target
from attn_export.exporter.cleanup.apply import RewriteLog, apply_to_fixpoint
from attn_export.exporter.cleanup.pipeline import clean, prepare
from attn_export.exporter.cleanup.rule import Context, Rule

Array = np.ndarray[Any, Any]

NUMPY = {"float": np.float32, "float16": np.float16, "double": np.float64}
CONSTANT = re.compile(r"\b(float16|float|double)\s*\[([\d,\s]*)\]\s+(\w+)\s*=\s*(random|\{[^}]*\})")
# Two batch sizes, and two sizes of a map that isn't square.
SIZES = ({"N": 2, "H": 5, "W": 4}, {"N": 3, "H": 6, "W": 7})
# Rounding of other orders of summation; float16 is rounded after every operator.
TOLERANCE = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-12, np.dtype(np.float16): 1e-2}


def graph(inputs: str, outputs: str, body: str, constants: str = "", *, opset: int = 20) -> str:
    """The text of a graph; several of each are separated as in ONNX's syntax."""
    stated = f"<{constants}>" if constants else ""
    return f'<ir_version: 10, opset_import: ["" : {opset}]> g ({inputs}) => ({outputs}) {stated} {{ {body} }}'


def model_of(text: str) -> ir.Model:
    """The graph that a text describes, with its random constants, which are the same every time."""
    noise = np.random.default_rng(11)
    tensors: list[onnx.TensorProto] = []

    def take(found: re.Match[str]) -> str:
        kind, sizes, name, content = found.groups()
        if kind != "float16" and content != "random":
            return found[0]
        shape = tuple(int(n) for n in sizes.split(",") if n.strip())
        if content == "random":  # all positive, so that variances are
            array = noise.uniform(0.2, 1.2, shape)
            if not name.startswith("var"):
                array *= noise.choice([-1, 1], shape)
        else:
            array = np.array([float(n) for n in content.strip("{}").split(",")]).reshape(shape)
        tensors.append(onnx.numpy_helper.from_array(array.astype(NUMPY[kind]), name))
        return f"{kind}[{sizes}] {name}"

    proto = onnx.parser.parse_model(CONSTANT.sub(take, text))
    made = {tensor.name for tensor in tensors}
    stated = [info for info in proto.graph.value_info if info.name not in made]
    proto.graph.ClearField("value_info")
    proto.graph.value_info.extend(stated)
    proto.graph.initializer.extend(tensors)
    return ir.from_proto(proto)


def operators(model: ir.Model) -> str:
    """The operators of the main graph in alphabetical order, as words."""
    return " ".join(sorted(node.op_type for node in model.graph))


def serialized(model: ir.Model) -> bytes:
    return ir.to_proto(model).SerializeToString(deterministic=True)


def run(model: ir.Model, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Every output, from ONNX Runtime without any optimization of its own."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(serialized(model), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def feeds_for(model: ir.Model, trial: int, ranks: Mapping[str, Sequence[int]] | None = None) -> dict[str, Array]:
    """Random inputs. ``ranks`` has the shapes of inputs whose rank the graph doesn't know."""
    noise = np.random.default_rng(trial)
    feeds: dict[str, Array] = {}
    for value in model.graph.inputs:
        name, dtype = str(value.name), value.dtype
        assert dtype is not None
        if value.is_initializer():  # it may be overridden, and needn't
            continue
        known = (ranks or {}).get(name) or [
            size if isinstance(size, int) else SIZES[trial].get(str(size.value), 3) for size in value.shape or ()
        ]
        if dtype == ir.DataType.BOOL:
            feeds[name] = np.full(known, trial == 0)
        elif dtype == ir.DataType.INT64:
            feeds[name] = noise.integers(1, 5, known)
        else:
            feeds[name] = noise.uniform(-4, 4, known).astype(dtype.numpy())
    return feeds


def assert_same(before: ir.Model, after: ir.Model, ranks: Mapping[str, Sequence[int]] | None = None) -> None:
    """Both compute the same at two sizes, under the same names."""
    for trial in range(len(SIZES)):
        feeds = feeds_for(before, trial, ranks)
        expected, got = run(before, feeds), run(after, feeds)
        assert list(expected) == list(got), "outputs keep their names and order"
        for name, wanted in expected.items():
            assert got[name].dtype == wanted.dtype
            assert got[name].shape == wanted.shape
            if wanted.dtype.kind != "f":
                assert np.array_equal(got[name], wanted)
                continue
            difference = float(np.linalg.norm((got[name] - wanted).astype(np.float64)))
            size = max(float(np.linalg.norm(wanted.astype(np.float64))), 0.1)
            assert difference <= TOLERANCE[wanted.dtype] * size, name


def assert_valid(model: ir.Model) -> None:
    """Operators, types, and every shape that is written in the graph."""
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def assert_shapes_hold(model: ir.Model, ranks: Mapping[str, Sequence[int]] | None = None) -> None:
    """Every value has the shape that is written in the graph; one name is one size."""
    shown = model.clone()
    written = {str(v.name): v.shape for node in shown.graph for v in node.outputs if v.shape is not None and v.name}
    returned = {value.name for value in shown.graph.outputs}
    shown.graph.outputs.extend(v for node in shown.graph for v in node.outputs if v.name in written.keys() - returned)
    feeds = feeds_for(shown, 0, ranks)
    named: dict[str, int] = {}
    for value in shown.graph.inputs:
        if value.name in feeds and value.shape is not None:
            sizes = zip(value.shape, feeds[value.name].shape, strict=True)
            named |= {str(size): number for size, number in sizes if not isinstance(size, int)}
    for name, array in run(shown, feeds).items():
        for size, number in zip(written[name], array.shape, strict=True):
            known = size if isinstance(size, int) else named.setdefault(size.value, number) if size.value else number
            assert known == number, f"{name} says {written[name]} and is {array.shape}"


@dataclass(frozen=True)
class Settled:
    """What became of a graph."""

    raw: ir.Model
    model: ir.Model
    log: RewriteLog
    before: bytes = field(repr=False)

    @property
    def reasons(self) -> list[str]:
        return [miss.reason for miss in self.log.skipped]

    @property
    def fired(self) -> Counter[str]:
        return Counter(firing.rule for firing in self.log.applied)

    @property
    def is_unchanged(self) -> bool:
        return serialized(self.model) == self.before

    @property
    def constants(self) -> dict[str, Array]:
        return {n: v.const_value.numpy() for n, v in self.model.graph.initializers.items() if v.const_value}


def settled(text: str, *rules: Rule, target: Target = Target.ANY) -> Settled:
    """Take a graph through what comes before the rules, and through these rules."""
    model = model_of(text)
    prepare(model)
    before = serialized(model)
    log = apply_to_fixpoint(model, rules, Context(model.graph.opset_imports[""], target))
    return Settled(model_of(text), model, log, before)


@cache
def cleaned(text: str, target: Target) -> ir.Model:
    """Shared: nobody changes it."""
    model = model_of(text)
    assert clean(model, target).reverted == (), "no rule is wrong"
    return model


@dataclass(frozen=True)
class Fires:
    """A graph to which a rule applies, and what is left of it."""

    name: str
    rule: Rule
    text: str
    left: str
    times: int = 1
    target: Target = Target.ANY
    ranks: Mapping[str, Sequence[int]] | None = None

    def __str__(self) -> str:
        return f"{self.rule.name.replace(' ', '_')}-{self.name}"

    def apply_to_fixpoint(self) -> Settled:
        return settled(self.text, self.rule, target=self.target)

    def assert_fires(self) -> None:
        done = self.apply_to_fixpoint()
        assert done.log.reverted == []
        assert (operators(done.model), done.fired[self.rule.name]) == (self.left, self.times), done.reasons
        assert_valid(done.model)

    def assert_same(self) -> None:
        done = self.apply_to_fixpoint()
        assert done.log.applied
        assert_shapes_hold(done.model, self.ranks)
        assert_same(done.raw, done.model, self.ranks)

    def assert_rests(self) -> None:
        done = self.apply_to_fixpoint()
        once = serialized(done.model)
        again = apply_to_fixpoint(done.model, [self.rule], Context(done.model.graph.opset_imports[""], self.target))
        assert again.applied == []
        assert serialized(done.model) == once

    def assert_cleaned(self, target: Target) -> None:
        """The whole cleanup computes the same, and done again changes nothing."""
        done = cleaned(self.text, target)
        assert_valid(done)
        assert_same(model_of(self.text), done, self.ranks)
        again = done.clone()
        clean(again, target)
        assert serialized(again) == serialized(done)


@dataclass(frozen=True)
class Keeps:
    """A graph that a rule keeps away from.

    Attributes:
        reason: that it gives; "" where it sees nothing to do, None where either is right.
    """

    name: str
    rule: Rule
    text: str
    reason: str | None = ""
    target: Target = Target.ANY

    def __str__(self) -> str:
        return f"{self.rule.name.replace(' ', '_')}-{self.name}"

    def assert_keeps(self) -> None:
        done = settled(self.text, self.rule, target=self.target)
        assert done.log.applied == []
        assert done.log.reverted == [], "it has to keep away by itself, not by failing its proof"
        assert done.is_unchanged
        if self.reason is not None:
            assert set(done.reasons) == ({self.reason} if self.reason else set())
