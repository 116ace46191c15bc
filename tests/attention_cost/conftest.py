"""Networks as files of every form, each made once for all tests of a worker."""

import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import cache
from io import StringIO
from pathlib import Path

import pytest
import torch

from attn_export.exporter.artifacts import Input, OnnxFile, Precision, Signature, Target
from attn_export.exporter.cleanup.inspect import inspect_file
from attn_export.exporter.graph.facts import dims
from attn_export.exporter.graph.read import named, parse, read
from attn_export.exporter.latency.attention_cost.naming import Names
from attn_export.exporter.latency.attention_cost.profile import Kernel, profile
from attn_export.exporter.network.values import timed_inputs
from attn_export.exporter.precision.typed_file import typed
from attn_export.exporter.records.arrays import Arrays
from attn_export.exporter.records.latency import Schedule
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.workflows.clean import clean_file
from attn_export.models.registry import create

# What every fixture calls a file that ONNX's older exporter wrote, and nobody cleaned.
LEGACY = "legacy"
SIZES = {"resnet8": 16, "mobilenet_v3_small": 64}
ONE_THREAD = Settings(threads=1)
SHORT = Schedule(seconds=0.2, fewest_rounds=8, warm_up_seconds=0.05)


def as_file(path: Path, batch: int = 1) -> OnnxFile:
    """What is known of a file that anybody may have written."""
    model = read(path)
    (taken,) = (value for value in model.graph.inputs if value.const_value is None)
    shape = tuple(size if isinstance(size, int) else batch for size in dims(taken) or ())
    signature = Signature((Input(str(taken.name), shape),), tuple(str(value.name) for value in model.graph.outputs))
    return OnnxFile(path, signature, "", 0, len(model.graph), (), blocks=inspect_file(path))


def images_of(file: OnnxFile) -> Arrays:
    return timed_inputs(file.signature.inputs)


def kernels_of(file: OnnxFile, folder: Path, model=None) -> tuple[Kernel, ...]:
    """What ONNX Runtime makes of a file, or of a graph that was made of it."""
    model = named(read(file.path)) if model is None else model
    Names(model)
    return profile(model, file.path, file.signature, ONE_THREAD, images_of(file), 1, folder)


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., OnnxFile]:
    """``network("se_resnet8", "tensorrt")`` is cleaned for a target; "legacy" is as PyTorch's older exporter writes it.

    ``"any.fp16"`` is cleaned and in float16. Shared: nobody writes to it.
    """
    folder = tmp_path_factory.mktemp("networks")

    @cache
    def path_of(name: str, form: str) -> Path:
        path = folder / f"{name}.{form}.onnx"
        if form == LEGACY:
            _export(name, path)
        elif form.endswith(".fp16"):
            parent = path_of(name, form.removesuffix(".fp16"))
            file = as_file(parent)
            typed(parse(parent), Precision.FP16, [images_of(file)], path, 1)
        else:
            clean_file(path_of(name, LEGACY), path, target=Target(form), threads=1)
        return path

    return lambda name, form="any": as_file(path_of(name, form))


def _export(name: str, path: Path) -> None:
    size = next(size for backbone, size in SIZES.items() if name.endswith(backbone))
    axes = {"input": {0: "batch"}, "logits": {0: "batch"}}
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            create(name).eval(), (torch.zeros(2, 3, size, size),), path, dynamo=False, opset_version=17,
            input_names=["input"], output_names=["logits"], dynamic_axes=axes,
        )  # fmt: skip


def with_batch(file: OnnxFile, batch: int) -> OnnxFile:
    return replace(file, signature=file.signature.with_batch(batch))


FORMS = ("any", "tensorrt", "onnxruntime", LEGACY, "any.fp16", "tensorrt.fp16", "onnxruntime.fp16")
