"""Networks, their graphs and their files, each made once for all tests of a worker.

Captures take seconds, so they are shared. `clean` consumes the graph it is given; whoever asks for a graph gets a copy.
"""

import resource
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from attn_export.exporter.artifacts import Graph, LoadedModel, OnnxFile
from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.cleanup.pipeline import clean_graph
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.network.axes import opened
from attn_export.exporter.network.batches import batches
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.validation.reference import Reference
from attn_export.models.attention.squeeze_excite import SEBlock
from attn_export.models.initialization import initialize
from attn_export.models.registry import create
from tests.shared import capture, compute_reference


def make(name: str) -> LoadedModel:
    """A network of the zoo at a small size, or the toy: one convolution, one gate, one linear layer."""
    if name == "toy":
        toy = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            SEBlock(8, reduction=2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 5),
        ).eval()
        initialize(toy, size=16)
        return from_module(toy, (3, 16, 16))
    size = 32 if name.endswith("resnet8") else 64
    return from_module(create(name), (3, size, size))


@pytest.fixture
def fresh() -> Callable[[str], LoadedModel]:
    """``fresh(name)`` is a network of one's own, to be changed at will."""
    return make


@pytest.fixture(scope="session")
def loaded() -> Callable[[str], LoadedModel]:
    """``loaded(name)`` is shared: nobody changes its module."""
    return cache(make)


@pytest.fixture(scope="session")
def captured(loaded: Callable[[str], LoadedModel]) -> Callable[[str], Graph]:
    """``captured(name)`` is a copy of the graph as PyTorch made it, the batch open."""
    once = cache(lambda name: capture(loaded(name)))

    def copy_of(name: str) -> Graph:
        graph = once(name)
        return replace(graph, model=graph.model.clone())

    return copy_of


@pytest.fixture(scope="session")
def artifact(captured: Callable[[str], Graph], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], OnnxFile]:
    """``artifact(name)`` is the cleaned graph as a file, shared: nobody writes to it."""
    folder = tmp_path_factory.mktemp("artifacts")
    return cache(lambda name: onnx_file.write(clean_graph(captured(name))[0], folder / f"{name}.onnx"))


@pytest.fixture(scope="session")
def reference(loaded: Callable[[str], LoadedModel]) -> Callable[[str], Reference]:
    """``reference(name)`` is what PyTorch computes on every batch that artifacts with an open batch are judged on."""

    def compute(name: str) -> Reference:
        model = loaded(name)
        return compute_reference(model, batches(opened(model.inputs)))

    return cache(compute)


@pytest.fixture(scope="session")
def one_thread() -> Settings:
    return Settings(threads=1)


@pytest.fixture
def small_files_only() -> Iterator[None]:
    """The system stops every write beyond 4 kB, as a full disk does."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def folder_with_older(tmp_path: Path) -> Path:
    """A folder that holds the result of an earlier export, and nothing else."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.onnx").write_bytes(b"older")
    return out


@pytest.fixture
def threads_as_before() -> Iterator[int]:
    """Torch's number of threads, which is put back should a failing test leave another."""
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)
