"""Engines in a model repository."""

import shutil
from pathlib import Path

import pytest
from msgspec import structs

from attn_export.exporter.engine.sidecar import write_sidecar
from attn_export.exporter.errors import InputError, UsageError
from attn_export.exporter.records.engine import BackendRecord, EngineFile, Range
from attn_export.exporter.workflows.package_triton import TritonSettings, write_repository


@pytest.fixture
def engine(built: EngineFile, tmp_path: Path) -> EngineFile:
    """A copy of one's own."""
    for name in ("a.onnx", "a.engine", "a.engine.json"):
        shutil.copy(built.path.with_name(name), tmp_path)
    return EngineFile(tmp_path / "a.engine", built.record)


def of_classic_tensorrt(engine: EngineFile, **changes: object) -> Path:
    """The engine with the record of one that classic TensorRT built: the repository holds its bytes as they are."""
    backend = BackendRecord("tensorrt", "10.13.0")
    write_sidecar(engine.path, structs.replace(engine.record, backend=backend, **changes))
    return engine.path


def test_a_plan_has_the_batch_of_its_profile_and_runs_on_gpus(engine: EngineFile, tmp_path: Path) -> None:
    (folder,) = write_repository([of_classic_tensorrt(engine)], tmp_path / "models", TritonSettings(instances=2))
    config = (folder / "config.pbtxt").read_text()
    assert 'platform: "tensorrt_plan"\nmax_batch_size: 8\ndefault_model_filename: "model.plan"\n' in config
    assert "count: 2\n  kind: KIND_GPU\n" in config
    assert f"# checkpoint: sha256 {'c' * 64}\n" in config, "of the ONNX file beside it"
    assert (folder / "1" / "model.plan").read_bytes() == engine.path.read_bytes()


def test_what_triton_cannot_load_or_batch_is_refused(engine: EngineFile, tmp_path: Path) -> None:
    write_sidecar(engine.path, engine.record)
    with pytest.raises(InputError, match="Triton loads engines of classic TensorRT"):
        write_repository([engine.path], tmp_path / "models", TritonSettings())
    four = Range((4, 3, 8, 8), (4, 3, 8, 8), (8, 3, 8, 8))
    of_classic_tensorrt(engine, profile={"input": four})
    with pytest.raises(InputError, match="batches of 4 at least"):
        write_repository([engine.path], tmp_path / "models", TritonSettings())
    with pytest.raises(UsageError, match="GPUs only"):
        write_repository([engine.path], tmp_path / "models", TritonSettings(kind="cpu"))
    assert not (tmp_path / "models").exists() or not list((tmp_path / "models").iterdir())
