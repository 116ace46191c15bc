"""Bundles of networks from the zoo, each made once for all tests of a worker."""

import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from attn_export.exporter.artifacts import OnnxFile, Precision, Target
from attn_export.exporter.bundle.golden import GoldenVectors
from attn_export.exporter.bundle.write import write_bundle
from attn_export.exporter.checkpoint.create import create_checkpoint
from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.cleanup.pipeline import clean_graph
from attn_export.exporter.engine.graph import GraphFacts, read_graph
from attn_export.exporter.engine.profile import Sizes, make_profile
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.network.axes import opened
from attn_export.exporter.network.batches import batches
from attn_export.exporter.records.engine import BuildOptions, Profile
from attn_export.exporter.validation.baseline import TYPES
from attn_export.exporter.validation.golden import golden_of_reference
from attn_export.exporter.validation.reference import Reference
from tests.shared import capture, compute_reference

SIZES = Sizes(batch=(1, 2, 4))


@dataclass(frozen=True)
class Made:
    """A network, its ONNX file, what PyTorch computes, and the bundle of them."""

    file: OnnxFile
    reference: Reference
    facts: GraphFacts
    profile: Profile
    golden: GoldenVectors
    bundle: Path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """``made(name)`` is shared: nobody writes to its files."""
    folder = tmp_path_factory.mktemp("bundles")

    def make(name: str) -> Made:
        checkpoint = folder / f"{name}.pt"
        create_checkpoint(checkpoint, name)
        model = load(checkpoint)
        reference = compute_reference(model, batches(opened(model.inputs)), precisions=tuple(TYPES))
        graph, _ = clean_graph(capture(model), Target.TENSORRT)
        file = onnx_file.write(graph, folder / f"{name}.onnx")
        facts = read_graph(file.path)
        profile = make_profile(facts.inputs, SIZES)
        golden = golden_of_reference(reference, file.signature, profile, Precision.FP32)
        bundle = write_bundle(
            folder / f"{name}.sm87.bundle.zip",
            file.path,
            facts=facts,
            profile=profile,
            architecture="sm87",
            precision=Precision.FP32,
            options=BuildOptions(workspace_mib=256),
            golden=golden,
        )
        return Made(file, reference, facts, profile, golden, bundle)

    return cache(make)


@pytest.fixture(scope="session")
def cbam(made: Callable[[str], Made]) -> Made:
    return made("cbam_resnet8")


@pytest.fixture
def extracted(cbam: Made, tmp_path: Path) -> Path:
    """The bundle as a folder, to be changed at will."""
    folder = tmp_path / "bundle"
    shutil.unpack_archive(cbam.bundle, folder, "zip")
    return folder


@pytest.fixture
def small_files_only() -> Iterator[None]:
    """The system stops every write beyond 4 kB, as a full disk does."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)
