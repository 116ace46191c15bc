"""Networks as files, and the engines of them, each made once for all tests of a worker."""

import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch

from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.cleanup.pipeline import clean_graph
from attn_export.exporter.engine.backend import Backend, load
from attn_export.exporter.engine.build import Built, build
from attn_export.exporter.engine.graph import GraphFacts, read_graph
from attn_export.exporter.engine.kernels import read_log
from attn_export.exporter.engine.profile import Sizes, make_profile
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.records.engine import BuildOptions, KernelReport
from attn_export.exporter.workflows.clean import clean_file
from attn_export.models.registry import create
from tests.shared import capture

# 8x8 for the networks of small images: their last maps are still larger than one place.
SIZES = {"resnet8": 8, "mobilenet_v3_small": 64}


@dataclass(frozen=True)
class Engine:
    """A build with all that is known of it."""

    facts: GraphFacts
    built: Built
    report: KernelReport


def size_of(name: str) -> int:
    return next(size for backbone, size in SIZES.items() if name.endswith(backbone))


@pytest.fixture(scope="session")
def rtx() -> Backend:
    pytest.importorskip("tensorrt_rtx")
    return load("tensorrt-rtx")


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``network("se_resnet8")`` is a cleaned file; ``"raw"`` and ``"legacy"`` are as PyTorch's two exporters write it.

    ``"short"`` is cleaned too, and made with the older exporter, which takes a tenth of the time.
    """
    folder = tmp_path_factory.mktemp("networks")

    @cache
    def write(name: str, form: str = "clean") -> Path:
        size, path = size_of(name), folder / f"{name}.{form}.onnx"
        if form == "short":
            return clean_file(write(name, "legacy"), path, threads=1).path
        module = create(name).eval()
        if form == "clean":
            graph = clean_graph(capture(from_module(module, (3, size, size))))[0]
            onnx_file.write(graph, path)
            return path
        image = torch.zeros(2, 3, size, size)
        options: dict[str, Any] = {"input_names": ["input"], "output_names": ["logits"]}
        if form == "legacy":
            axes = {"input": {0: "batch"}, "logits": {0: "batch"}}
            options |= {"dynamo": False, "opset_version": 17, "dynamic_axes": axes}
        else:
            shapes = ({0: torch.export.Dim("batch")},)
            options |= {"dynamo": True, "opset_version": 20, "dynamic_shapes": shapes, "external_data": False}
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(module, (image,), path, **options)
        return path

    return write


@pytest.fixture(scope="session")
def engine(rtx: Backend) -> Callable[..., Engine]:
    """``engine(path, "sm86")`` is shared: nobody changes it."""

    @cache
    def make(path: Path, *architectures: str, sizes: Sizes = Sizes()) -> Engine:  # noqa: B008
        facts = read_graph(path)
        built = build(rtx, path, make_profile(facts.inputs, sizes), architectures or ("sm86",), BuildOptions())
        return Engine(facts, built, read_log(built.log))

    return make


@pytest.fixture
def left(tmp_path: Path) -> Callable[[], set[str]]:
    """All that is below the folder of the test, hidden ones too."""
    return lambda: {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
