"""Hostile checkpoints and arrays of images."""

import io
import itertools
import os
import pickle
import struct
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.attack.case import MARK, Case
from tests.attack.values import INTEGERS

EXPORT = ("model.pt", "--onnx", "--no-bench", "--quiet", "--threads", "1", "--arch", "cbam_resnet8")
TOUCH = f"touch {MARK}"
# Functions that run what they are given, and its arguments.
RUNNERS: tuple[tuple[str, str, tuple[Any, ...]], ...] = (
    ("os", "system", (TOUCH,)),
    ("posix", "system", (TOUCH,)),
    ("subprocess", "call", (["sh", "-c", TOUCH],)),
    ("subprocess", "Popen", (["sh", "-c", TOUCH],)),
    ("builtins", "eval", (f"open({MARK!r}, 'w')",)),
    ("builtins", "exec", (f"open({MARK!r}, 'w')",)),
    ("__builtin__", "eval", (f"open({MARK!r}, 'w')",)),
    ("builtins", "open", (MARK, "w")),
    ("io", "open", (MARK, "w")),
    ("pathlib", "Path.touch", (MARK,)),
    ("runpy", "run_path", ("evil.py",)),
    ("pty", "spawn", (["sh", "-c", TOUCH],)),
    ("timeit", "timeit", (f"open({MARK!r}, 'w')",)),
    ("cProfile", "run", (f"open({MARK!r}, 'w')",)),
    ("code", "interact", (TOUCH,)),
    ("torch", "load", ("evil.pt",)),
    ("torch.hub", "load", ("evil", "evil")),
    ("torch.utils.cpp_extension", "load_inline", ("evil", "int x;")),
    ("numpy", "load", ("evil.npy",)),
    ("operator", "attrgetter", ("system",)),
    ("functools", "partial", (print,)),
    ("importlib", "import_module", ("evil",)),
    ("attn_export.exporter.checkpoint.load", "load", ("evil.pt",)),
)


class Call:
    """Pickles as a call of a function that needs not be there."""

    def __init__(self, module: str, name: str, arguments: tuple[Any, ...]) -> None:
        self.parts = module, name, arguments


def called(module: str, name: str, arguments: tuple[Any, ...], how: str) -> bytes:
    """A pickle that calls the function, by one of the ways that pickle has."""
    pushed = pickle.dumps(arguments, 2)[2:-1]
    function = f"c{module}\n{name}\n".encode()
    if how == "stack":
        texts = b"".join(b"X" + struct.pack("<I", len(part)) + part.encode() for part in (module, name))
        return b"\x80\x04" + texts + b"\x93" + pushed + b"R."
    if how == "object":
        return b"\x80\x02" + function + pushed + b"\x81."
    if how == "state":
        return b"\x80\x02" + function + b")\x81" + pushed + b"b."
    return b"\x80\x02" + function + pushed + b"R."


def archive(pickled: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("model/data.pkl", pickled)
        made.writestr("model/version", "3")
        made.writestr("model/byteorder", "little")
        made.writestr("model/data/0", bytes(64))
    return buffer.getvalue()


def tensor(sizes: tuple[int, ...], strides: tuple[int, ...], offset: int, count: int) -> bytes:
    """A pickle of one tensor in a state dict."""
    storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu"
    numbers = [pickle.dumps(number, 2)[2:-1] for number in (count, offset, sizes, strides)]
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + numbers[0] + b"tQ" + b"".join(numbers[1:])
    return b"\x80\x02}X\x0c\0\0\0conv1.weight" + rebuilt + b"\x89ccollections\nOrderedDict\n)RtRs."


def written(name: str, content: bytes, folder: Path) -> None:
    (folder / name).write_bytes(content)


def checkpoints() -> Iterator[tuple[str, bytes]]:
    for (module, name, arguments), how in itertools.product(RUNNERS, ("reduce", "stack", "object", "state")):
        pickled = called(module, name, arguments, how)
        yield f"{module}.{name} by {how}", archive(pickled)
        yield f"{module}.{name} by {how}, plain", pickled
    for value in INTEGERS:
        yield f"a tensor of {value}", archive(tensor((value,), (1,), 0, 16))
        yield f"strides of {value}", archive(tensor((4,), (value,), 0, 16))
        yield f"an offset of {value}", archive(tensor((4,), (1,), value, 16))
        yield f"a storage of {value}", archive(tensor((4,), (1,), 0, value))
    yield "1,000 dimensions", archive(tensor((1,) * 1000, (1,) * 1000, 0, 16))
    yield "tuples in tuples", archive(b"\x80\x02)" + b"\x85" * 1_000_000 + b".")
    yield "100,000 names", archive(b"\x80\x02(" + b"".join(b"cm%d\nC\n" % n for n in range(100_000)) + b"t.")
    yield "memory by the gigabyte", archive(b"\x80\x02X\xff\xff\xff\x7f.")
    yield "noise", os.urandom(4096)
    yield "empty", b""


def header(shape: str, dtype: str = "'<f4'") -> bytes:
    """The head of an ``.npy`` file."""
    content = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    content += b" " * (63 - (len(content) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(content)) + content


def arrays() -> Iterator[tuple[str, bytes]]:
    for size in INTEGERS:
        yield f"{size} images", header(f"({size}, 3, 8, 8)") + bytes(768)
        yield f"{size} x {size}", header(f"({size}, {size})") + bytes(768)
    for shape in (f"(__import__('os').system({TOUCH!r}),)", "(" * 4000 + ")" * 4000, "(True, 3, 8, 8)", "()", "None"):
        yield f"a shape {shape[:20]}", header(shape) + bytes(768)
    for dtype in ("'|O'", "'<c8'", "'<M8[s]'", "'<U5'", "[('a', '<f4')]", "[" * 200 + "]" * 200, "'<f16'"):
        yield f"a type {dtype[:20]}", header("(1, 3, 8, 8)", dtype) + bytes(4096)
    yield "pickled", header("(1,)", "'|O'") + called("os", "system", (TOUCH,), "reduce")
    yield "a plain pickle", called("os", "system", (TOUCH,), "reduce")
    yield "not a number", header("(1, 3, 8, 8)") + np.full(192, np.nan, "f4").tobytes()
    yield "noise", os.urandom(4096)
    yield "empty", b""


def cases() -> Iterator[Case]:
    """Every checkpoint and every array."""
    for name, content in checkpoints():
        runs = name.split()[-1] in ("reduce", "stack") or "plain" in name
        yield Case("checkpoint", name, EXPORT, partial(written, "model.pt", content), refused=runs)
    for name, content in arrays():
        command = ("clean", "good.onnx", "-o", "out.onnx", "--images", "i.npy", "--quiet", "--threads", "1")
        yield Case("images", name, command, partial(written, "i.npy", content))
