"""Hostile ONNX files."""

import itertools
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.attack.case import Case
from tests.attack.values import ESCAPES, INTEGERS

COMMANDS = (
    ("clean", "model.onnx", "-o", "out.onnx", "--threads", "1", "--quiet"),
    ("inspect", "model.onnx", "--quiet"),
    ("build", "model.onnx", "--gpu", "sm86", "--threads", "1", "--quiet"),
)
node = helper.make_node
MAP = ("N", 3, 32, 32)
HUGE = (2**31, 10**10, 10**12, 10**18, 2**62)


def ints(name: str, *values: int) -> onnx.TensorProto:
    return helper.make_tensor(name, TensorProto.INT64, [len(values)], values)


def scalar(name: str, value: float, kind: int = TensorProto.INT64) -> onnx.TensorProto:
    return helper.make_tensor(name, kind, [], [value])


def floats(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.full(shape, 0.1, np.float32), name)


def model(nodes: list[Any], weights: Any = (), sizes: Any = MAP, opset: int = 17, **parts: Any) -> onnx.ModelProto:
    """A graph from x to y."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)
    graph = onnx.GraphProto(name="g", node=nodes, input=[x], output=[y], initializer=list(weights))
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return onnx.ModelProto(ir_version=8, graph=graph, opset_import=opsets, **parts)


def added(nodes: list[Any], weights: Any, opset: int = 17) -> onnx.ModelProto:
    """What the nodes compute as c, summed and added to x."""
    summed = node("ReduceSum", ["f"], ["s"], keepdims=0)
    total = [node("Cast", ["c"], ["f"], to=1), summed, node("Add", ["x", "s"], ["y"])]
    return model([*nodes, *total], weights, opset=opset)


Made = tuple[str, Callable[[], onnx.ModelProto | bytes], bool]


def constants() -> Iterator[Made]:
    """Constants that a cleanup would compute, larger than memory."""
    one = floats("one", 1)
    for size in HUGE:
        yield (
            f"ConstantOfShape {size}",
            partial(added, [node("ConstantOfShape", ["n"], ["c"])], [ints("n", size)]),
            True,
        )
        for op in ("Expand", "Tile"):
            yield f"{op} {size}", partial(added, [node(op, ["one", "n"], ["c"])], [ints("n", size), one]), True
        bounds = [scalar("a", 0), scalar("b", size), scalar("d", 1)]
        yield f"Range {size}", partial(added, [node("Range", ["a", "b", "d"], ["c"])], bounds), True
        depth = [ints("i", 1), scalar("d", size), floats("v", 2)]
        yield f"OneHot {size}", partial(added, [node("OneHot", ["i", "d", "v"], ["c"])], depth), True
        yield f"Pad {size}", partial(added, [node("Pad", ["one", "n"], ["c"])], [ints("n", 0, size), one]), False
        yield f"TopK {size}", partial(added, [node("TopK", ["one", "n"], ["c", "i"])], [ints("n", size), one]), False
        window = [node("BlackmanWindow", ["n"], ["c"])]
        yield f"BlackmanWindow {size}", partial(added, window, [scalar("n", size)]), False
        yield f"sizes {size}", partial(model, [node("Relu", ["x"], ["y"])], sizes=(size, 3, 32, 32)), False
    doubling = [node("Concat", [f"c{k}", f"c{k}"], [f"c{k + 1}"], axis=0) for k in range(40)]
    yield "Concat 40 times", partial(added, [*doubling, node("Identity", ["c40"], ["c"])], [floats("c0", 1)]), True
    outer = [node("Einsum", ["a", "a", "a"], ["c"], equation="i,j,k->ijk")]
    yield "Einsum of a cube", partial(added, outer, [floats("a", 800)]), False


def arithmetic() -> Iterator[Made]:
    """Integers whose quotient, power or shift no processor has."""
    for op, a, b in itertools.product(("Div", "Mod", "Pow", "Mul"), INTEGERS, (0, -1, 2**40)):
        yield f"{op} {a} {b}", partial(added, [node(op, ["a", "b"], ["c"])], [ints("a", a), ints("b", b)]), False
    for trips in (2**21, 10**18):
        yield f"Loop {trips}", partial(loop, trips), True


def loop(trips: int) -> onnx.ModelProto:
    """A loop that adds one again and again."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [node("Identity", ["go"], ["goes"]), node("Add", ["a", "one"], ["b"])],
        "body",
        [info("i", TensorProto.INT64, []), info("go", TensorProto.BOOL, []), info("a", TensorProto.FLOAT, [1])],
        [info("goes", TensorProto.BOOL, []), info("b", TensorProto.FLOAT, [1])],
    )
    start = [floats("one", 1), scalar("m", trips), scalar("on", 1, TensorProto.BOOL)]
    return added([node("Loop", ["m", "on", "one"], ["c"], body=body)], start)


def attributes() -> Iterator[Made]:
    """Attributes that no layer has."""
    weight = floats("w", 4, 3, 3, 3)
    for name, value in itertools.product(("strides", "dilations", "kernel_shape", "pads"), INTEGERS):
        given: dict[str, Any] = {name: [value] * (4 if name == "pads" else 2)}
        yield f"Conv {name} {value}", partial(model, [node("Conv", ["x", "w"], ["y"], **given)], [weight]), False
        pool: dict[str, Any] = {"kernel_shape": [2, 2], **given}
        yield f"MaxPool {name} {value}", partial(model, [node("MaxPool", ["x"], ["y"], **pool)]), False
    for op, name in (("Softmax", "axis"), ("Concat", "axis"), ("DepthToSpace", "blocksize"), ("LRN", "size")):
        for value in INTEGERS:
            stated: dict[str, Any] = {name: value}
            yield f"{op} {name} {value}", partial(model, [node(op, ["x"], ["y"], **stated)]), False
    for op, value in itertools.product(("Reshape", "Expand", "Tile", "Unsqueeze", "Squeeze"), INTEGERS):
        yield f"{op} of x {value}", partial(model, [node(op, ["x", "n"], ["y"])], [ints("n", *[value] * 4)]), False
    for value in INTEGERS:
        yield f"Cast to {value}", partial(model, [node("Cast", ["x"], ["y"], to=value)]), False
        yield f"Gather {value}", partial(model, [node("Gather", ["x", "n"], ["y"], axis=1)], [ints("n", value)]), False


def tensors() -> Iterator[Made]:
    """Weights that can't be."""
    dims = ([10**9, 10**9], [2**62, 4], [-4], [-2, -2], [1] * 1000, [5], [0, 2**62])
    for shape, kind in itertools.product(dims, (0, 1, 7, 8, 16, 22, 999)):
        tensor = TensorProto(name="w", data_type=kind, dims=shape, raw_data=bytes(16))
        yield f"weight {shape[:4]} {kind}", partial(model, [node("Add", ["x", "w"], ["y"])], [tensor]), False
    for location in ("../../../etc/passwd", "/etc/passwd", "", ".", "a\0b", "w" * 10_000, "pipe", "/dev/zero", ESCAPES):
        tensor = TensorProto(name="w", data_type=1, dims=[3], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=location)
        yield f"weight in {location[:20]!r}", partial(model, [node("Add", ["x", "w"], ["y"])], [tensor]), True


def structures() -> Iterator[Made]:
    """Graphs that are deep, wide, circular, or called what no graph is."""
    relu = [node("Relu", ["x"], ["y"])]
    for depth in (20, 2000):
        calls = [node("Relu", ["a"], ["b"]), *(node(f"F{k}", ["a"], ["b"], domain="local") for k in range(depth))]
        yield f"functions {depth} deep", partial(functions, [[call] for call in calls]), depth > 100
        twice = [
            [node(f"F{k}", ["a"], ["m"], domain="local"), node(f"F{k}", ["m"], ["b"], domain="local")]
            for k in range(39)
        ]
        yield f"functions called twice {depth}", partial(functions, [[calls[0]], *twice]), True
    yield "100,000 nodes", lambda: model([*(node("Relu", ["x"], [f"a{k}"]) for k in range(100_000)), *relu]), True
    yield "300,000 weights", lambda: model(relu, [floats(f"w{k}", 1) for k in range(300_000)]), True
    yield "a circle", partial(model, [node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), *relu]), True
    paths = [node("Shape", ["x"], ["s0"]), *(node("Mul", [f"s{k}"] * 2, [f"s{k + 1}"]) for k in range(60))]
    yield "2^60 paths", partial(model, [*paths, node("Reshape", ["x", "s60"], ["y"])]), False
    for name in (ESCAPES, "\0", "../../x", "[/x]", "x" * 10**6):
        named = [node("Relu", ["x"], [f"a{name}"], name=name), node("Neg", [f"a{name}"], ["y"])]
        yield f"a node called {name[:12]!r}", partial(model, named), False
        yield f"an operator called {name[:12]!r}", partial(model, [node(f"R{name}", ["x"], ["y"])]), True
    inventory = '[{"kind":"SE","module_path":"' + "x" * 10**6 + '","channels":1e999}]'
    properties = [
        onnx.StringStringEntryProto(key="attn_export.inventory", value=text) for text in (inventory, "[" * 10**5)
    ]
    for number, entry in enumerate(properties):
        yield f"inventory {number}", partial(model, relu, metadata_props=[entry]), False
    for opset in (0, -1, 99, 2**62):
        yield f"opset {opset}", partial(model, relu, opset=opset), False


def functions(bodies: list[list[Any]]) -> onnx.ModelProto:
    """Local functions F0, F1, ...; the graph calls the last."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    made = [helper.make_function("local", f"F{k}", ["a"], ["b"], body, opsets) for k, body in enumerate(bodies)]
    result = model([node(f"F{len(bodies) - 1}", ["x"], ["y"], domain="local")])
    result.functions.extend(made)
    return result


def raw() -> Iterator[Made]:
    """Bytes that are no message."""
    good = model([node("Relu", ["x"], ["y"])]).SerializeToString()
    yield "empty", lambda: b"", True
    yield "noise", lambda: os.urandom(4096), True
    yield "half", lambda: good[: len(good) // 2], True
    yield "a length of 2^63", lambda: b"\x08\x08\x3a" + b"\xff" * 9 + b"\x01", True
    yield "nested 10,000 times", lambda: nested(10_000), True


def nested(depth: int) -> bytes:
    """A body in a body, written by hand, as protobuf's own writer refuses it."""

    def field(number: int, content: bytes) -> bytes:
        length, encoded = len(content), bytearray()
        while length > 127:
            encoded.append(length & 127 | 128)
            length >>= 7
        return bytes([number << 3 | 2, *encoded, length]) + content

    body = b""
    for _ in range(depth):
        attribute = field(1, b"then_branch") + field(6, body) + b"\xa0\x01\x05"
        body = field(1, field(4, b"If") + field(5, attribute))
    return b"\x08\x08" + field(7, body)


def write(make: Callable[[], onnx.ModelProto | bytes], folder: Path) -> None:
    made = make()
    (folder / "model.onnx").write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe")


def cases() -> Iterator[Case]:
    """Every graph with every command."""
    for family in (constants, arithmetic, attributes, tensors, structures, raw):
        for name, make, refused in family():
            for command in COMMANDS:
                yield Case("graph", f"{name} [{command[0]}]", command, partial(write, make), refused)
