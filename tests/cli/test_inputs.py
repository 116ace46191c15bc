"""What a network takes, on the command line: --input, --range, --dynamic."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from attn_export.exporter.artifacts import Input
from attn_export.exporter.commands.parse import parse_sizes
from attn_export.exporter.commands.parse_inputs import parse_axes, parse_inputs, parse_ranges
from attn_export.exporter.errors import UsageError
from tests.cli.conftest import Finished
from tests.inputs.networks import WithMeta, Words

Command = Callable[..., Finished]
META = ("--code", "nets.py:WithMeta", "--input", "image=1x3x32x32")
WORDS = ("--code", "nets.py:Words", "--input", "tokens=1x12:int64", "--input", "mask=1x12:bool")


@pytest.fixture
def there(folder: Path) -> Path:
    """The folder with nets.py, and the weights of two of its networks."""
    source = Path(__file__).parents[1] / "inputs" / "networks.py"
    (folder / "nets.py").write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    torch.manual_seed(7)
    torch.save(WithMeta().state_dict(), folder / "meta.pt")
    torch.save(Words().state_dict(), folder / "words.pt")
    return folder


def inputs_of(path: Path) -> dict[str, list[int | str]]:
    values = onnx.load(path).graph.input
    return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


def test_an_input_that_may_be_left_out_is_given_by_its_name(there: Path, attn_export: Command) -> None:
    done = attn_export(
        "meta.pt", "--onnx", "--no-bench", *META, "--input", "meta=1x4", "--dynamic", "image:batch,height"
    )
    assert done.returncode == 0, done.stderr
    assert "left out" not in done.stderr
    assert inputs_of(there / "meta.onnx") == {"image": ["batch", 3, "height", 32], "meta": ["batch", 4]}


def test_tokens_are_exported_judged_and_timed(there: Path, attn_export: Command) -> None:
    ranges = ("--range", "tokens=0..49")
    done = attn_export("words.pt", "--onnx", "--no-bench", *WORDS, *ranges, "--dynamic", "batch,axis_1")
    assert done.returncode == 0, done.stderr
    assert inputs_of(there / "words.onnx") == {"tokens": ["batch", "axis_1"], "mask": ["batch", "axis_1"]}
    model = onnx.load(there / "words.onnx")
    weight = next(tensor for tensor in model.graph.initializer if list(tensor.dims) == [50, 8])
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
    onnx.save(model, there / "broken.onnx")
    done = attn_export("validate", "words.pt", "words.onnx", *WORDS, *ranges, "--no-cache", "--json")
    assert done.returncode == 0, done.stderr
    assert [[1, 12], [1, 12]] in json.loads(done.stdout)["artifacts"][0]["validation"]["batches"]
    assert attn_export("validate", "words.pt", "broken.onnx", *WORDS, *ranges, "--no-cache").returncode == 1
    done = attn_export("bench", "words.pt", "words.onnx", *WORDS, "--seconds", "0.1", "--quiet")
    assert done.returncode == 0, done.stderr


def test_options_are_read_as_they_are_written() -> None:
    assert parse_inputs(None) == ()
    assert parse_inputs(["2X3x8x8"]) == (Input("input", (2, 3, 8, 8)),)
    assert parse_inputs(["a=1x3x8x8", "b=1:int32"]) == (Input("a", (1, 3, 8, 8)), Input("b", (1,), "int32"))
    assert parse_ranges(["a=-1.5..2e3", "0..255"]) == {"a": (-1.5, 2000.0), "": (0.0, 255.0)}
    assert parse_axes(None, static=False) == ("batch",)
    assert parse_axes(None, static=True) == ()
    assert parse_axes(["batch,a:height,width", "b:axis_1"], static=False) == (
        "batch",
        "a:height",
        "a:width",
        "b:axis_1",
    )
    sizes = parse_sizes(["4"], ["32x32", "axis_1=8,12,16", "b_height=9"])
    assert sizes.images == ((32, 32),) * 3
    assert sizes.named == (("axis_1", (8, 12, 16)), ("b_height", (9, 9, 9)))


@pytest.mark.parametrize("text", ["16,8,12", "8,12", "0", "x"])
def test_sizes_of_an_axis_are_ascending_numbers(text: str) -> None:
    with pytest.raises(UsageError, match="--size axis_1"):
        parse_sizes(None, [f"axis_1={text}"])


REFUSED = {
    "unknown": (3, "meta.pt", (*META, "--input", "mata=1x4"), "no input 'mata'", "Did you mean meta?"),
    "missing": (3, "words.pt", WORDS[:4], "nothing says the shape of mask", "--input"),
    "none": (3, "words.pt", WORDS[:2], "nothing says the shape of", "--input tokens="),
    "twice": (2, "meta.pt", (*META, "--input", "image=1x3x16x16"), "image is given twice", "once"),
    "two without names": (2, "meta.pt", ("--input", "1x3x8x8", "--input", "1x4"), "given twice", "image="),
    "another type": (3, "meta.pt", (*META[:3], "image=1x3x32x32:float16"), "is float16", "float32"),
    "a type that the network doesn't take": (
        4,
        "words.pt",
        (*WORDS[:3], "tokens=1x12", *WORDS[4:]),
        "float32",
        "--input",
    ),
    "another N": (3, "meta.pt", (*META, "--input", "meta=2x4"), "batches of 1 and 2", "N"),
    "a range of nothing": (2, "meta.pt", (*META, "--range", "picture=0..1"), "no input is called 'picture'", "image"),
    "a range twice": (2, "meta.pt", (*META, "--range", "image=0..1", "--range", "image=0..2"), "already", "once"),
    "an empty range": (2, "meta.pt", (*META, "--range", "image=1..0"), "not a range", "LOW..HIGH"),
    "a range beyond the type": (2, "words.pt", (*WORDS, "--range", "mask=0..2"), "mask is bool", "0 to 1"),
    "half an integer": (2, "words.pt", (*WORDS, "--range", "tokens=0..1.5"), "int64", "whole"),
    "integers of unknown range": (3, "words.pt", WORDS, "which values it can take", "--range tokens="),
    "an axis of nothing": (2, "meta.pt", (*META, "--dynamic", "meta:batch"), "no input is called 'meta'", "image"),
    "an axis it hasn't": (2, "meta.pt", (*META, "--input", "meta=1x4", "--dynamic", "meta:height"), "height", ""),
    "another form": (2, "meta.pt", ("--input", "image:1x3"), "not a shape", "mask=1x64:int64"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused_with_what_would(what: str, there: Path, refused: Command) -> None:
    code, checkpoint, arguments, says, hint = REFUSED[what]
    refused(code, checkpoint, "--onnx", "--no-bench", "--quiet", *arguments, says=[says], hint=hint)


@pytest.mark.full
def test_real_inputs_come_by_name(there: Path, attn_export: Command, refused: Command) -> None:
    draw = np.random.default_rng(0)
    given = {"image": draw.standard_normal((2, 3, 32, 32)), "meta": draw.standard_normal((2, 4))}
    np.savez(there / "real.npz", image=given["image"], meta=given["meta"])
    np.savez(there / "half.npz", image=given["image"])
    arguments = ("meta.pt", "--onnx", "--no-bench", "--quiet", *META, "--input", "meta=1x4", "--images")
    refused(3, *arguments, "half.npz", says=["holds one array"], hint="image (N, 3, 32, 32), meta (N, 4)")
    assert attn_export(*arguments, "real.npz").returncode == 0
