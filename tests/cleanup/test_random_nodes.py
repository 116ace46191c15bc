"""Nodes that compute something else in every run are never shared, folded or taken for verified."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from attn_export.exporter.graph.randomness import random_outputs
from attn_export.exporter.graph.read import read
from attn_export.exporter.system.progress import NullProgress
from attn_export.exporter.workflows.clean import clean_file
from tests.cleanup.spellings import noise, parsed, run

MAP = "float[N, 4, 8, 8]"
HEADER = '<ir_version: 10, opset_import: ["" : 20, "my" : 1]>'
# Each draws numbers from x, a constant p of 0.5, and a condition that is true.
DRAWS = {
    "Dropout": "{} = Dropout(x, half, on)",
    "Bernoulli": "{} = Bernoulli(p)",
    "RandomNormalLike": "{} = RandomNormalLike(x)",
    "RandomUniformLike": "{} = RandomUniformLike(x)",
    "RandomNormal": "{} = RandomNormal<shape = [1, 4, 1, 1]>()",
    "RandomUniform": "{} = RandomUniform<shape = [1, 4, 1, 1]>()",
    "Multinomial": "{}i = Multinomial<sample_size = 4>(scores)  {}f = Cast<to = 1>({}i)  {} = Reshape({}f, vector)",
    "in a function": "{} = my.Noise(x)",
    "in a branch": "{} = If(on) <then_branch = a () => (float[1, 4, 8, 8] r) {{ r = RandomUniformLike(x) }}, "
    "else_branch = b () => (float[1, 4, 8, 8] s) {{ s = Relu(x) }}>",
}
WEIGHTS: dict[str, Any] = {
    "half": np.array(0.5, np.float32),
    "on": np.array(True),
    "p": np.full((1, 4, 8, 8), 0.5, np.float32),  # ONNX Runtime draws alike in each session of a process
    "scores": np.zeros((1, 9), np.float32),
    "vector": np.array([1, 4, 1, 1]),
}
FUNCTION = '<domain: "my", opset_import: ["" : 20]> Noise (x) => (y) { y = RandomNormalLike(x) }'


def two_draws(draw: str) -> onnx.ModelProto:
    """y is the difference of two draws, z doesn't depend on them."""
    body = f"{draw.replace('{}', 'a')}  {draw.replace('{}', 'b')}  y = Sub(a, b)  z = Relu(x)"
    text = f"{HEADER} g ({MAP} x) => (float[A, B, C, D] y, {MAP} z) {{ {body.replace('{{', '{').replace('}}', '}')} }}"
    model = parsed(text + (FUNCTION if "my." in draw else ""), **WEIGHTS)
    kept = {name for node in model.graph.node for name in node.input} | {"on"}
    weights = [tensor for tensor in model.graph.initializer if tensor.name in kept]
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)
    return model


class Notes(NullProgress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())
def test_each_draw_stays_one_of_its_own(tmp_path: Path, draw: str) -> None:
    onnx.save(two_draws(draw), tmp_path / "a.onnx")
    notes = Notes()
    result = clean_file(tmp_path / "a.onnx", tmp_path / "b.onnx", threads=1, progress=notes)
    images = noise(1, 4, 8, 8)
    assert any(np.abs(run(tmp_path / "b.onnx", x=images)[0]).max() > 0 for _ in range(8)), "two draws, not one"
    assert result.verdict is not None
    assert [comparison.tensor for comparison in result.verdict.comparisons] == ["z"]
    (note,) = notes.notes
    assert "y (" in note
    assert "random" in note


def test_a_graph_of_nothing_else_isnt_called_compared(tmp_path: Path) -> None:
    text = f"{HEADER} g ({MAP} x) => ({MAP} y) {{ a = Dropout(x, half, on)  y = Relu(a) }}"
    onnx.save(parsed(text, half=WEIGHTS["half"], on=WEIGHTS["on"]), tmp_path / "a.onnx")
    result = clean_file(tmp_path / "a.onnx", tmp_path / "b.onnx", threads=1)
    assert result.verdict is None
    assert "random" in result.not_compared


@pytest.mark.parametrize(
    ("nodes", "random"),
    [
        ("y = Dropout(x)", False),
        ("y = Dropout(x, half)", False),
        ("y = Dropout(x, half, off)", False),
        ("y = Dropout(x, half, on)", True),
        ("y = Dropout(x, none, on)", False),
        ('y = Dropout(x, "", on)', True),
        ("t = Constant<value = bool {1}>()  y = Dropout(x, half, t)", True),
        ("t = Constant<value = bool {0}>()  y = Dropout(x, half, t)", False),
        ("t = Cast<to = 9>(half)  y = Dropout(x, half, t)", True),
        ("a = RandomNormalLike(x)  s = Shape(a)  y = Expand(half, s)", False),
        ("a = RandomNormalLike(x)  s = Add(a, x)  y = Relu(s)", True),
        ("y = Relu(x)", False),
    ],
)
def test_what_depends_on_random_numbers(tmp_path: Path, nodes: str, random: bool) -> None:
    weights = {"half": WEIGHTS["half"], "on": np.array(True), "off": np.array(False)}
    weights["none"] = np.zeros((), np.float32)
    onnx.save(parsed(f"{HEADER} g ({MAP} x) => ({MAP} y) {{ {nodes} }}", **weights), tmp_path / "a.onnx")
    assert list(random_outputs(read(tmp_path / "a.onnx"))) == (["y"] if random else [])


def test_dropout_that_is_off_goes(tmp_path: Path) -> None:
    text = f"{HEADER} g ({MAP} x) => ({MAP} y) {{ a = Dropout(x, half, off)  y = Relu(a) }}"
    onnx.save(parsed(text, half=WEIGHTS["half"], off=np.array(False)), tmp_path / "a.onnx")
    clean_file(tmp_path / "a.onnx", tmp_path / "b.onnx", threads=1)
    assert [node.op_type for node in onnx.load(tmp_path / "b.onnx").graph.node] == ["Relu"]


def test_equal_nodes_of_another_domain_arent_shared(tmp_path: Path) -> None:
    """Nobody knows whether they compute the same twice; equal ones of ONNX's own do."""
    text = f"{HEADER} g ({MAP} x) => ({MAP} y) {{ a = my.Magic(x)  b = my.Magic(x)  c = Exp(x)  d = Exp(x) "
    text += "e = Add(a, b)  f = Add(c, d)  y = Add(e, f) }"
    onnx.save(parsed(text), tmp_path / "a.onnx")
    clean_file(tmp_path / "a.onnx", tmp_path / "b.onnx", threads=1)
    nodes = onnx.load(tmp_path / "b.onnx").graph.node
    assert Counter(node.op_type for node in nodes) == {"Magic": 2, "Exp": 1, "Add": 3}
    assert not any(node.attribute for node in nodes)
