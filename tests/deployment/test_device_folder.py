"""Device folders: written, opened on a device, and refused."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from onnx import TensorProto

from attn_export.exporter.deployment.manifest import MANIFEST, read_manifest
from attn_export.exporter.engine.backend import Backend
from attn_export.exporter.engine.sidecar import write_sidecar
from attn_export.exporter.errors import (
    ChangedPackageError,
    InputError,
    OutputError,
    UnreadableEngineError,
    UnreadablePackageError,
    UsageError,
)
from attn_export.exporter.records.engine import EngineFile
from attn_export.exporter.system.gpus import Gpu
from attn_export.exporter.workflows import load_device
from attn_export.exporter.workflows.load_device import FallbackWarning, load
from attn_export.exporter.workflows.package import PackageSettings, package
from attn_export.exporter.workflows.package_device import write_device_folder
from attn_export.exporter.workflows.verify import sign_folder
from tests.deployment.files import CHECKPOINT, FACTS, PIXELS, classifier, measured, write_keys

IMAGES = np.arange(2 * 3 * 8 * 8, dtype=np.float32).reshape(2, 3, 8, 8)
ANSWERS = IMAGES.mean((2, 3)) @ np.arange(9, dtype=np.float32).reshape(3, 3)
AMPERE, ADA = Gpu("NVIDIA GeForce RTX 3080", "8.6"), Gpu("NVIDIA L4", "8.9")

# What a device without torch does, in a process where nothing can import it.
ON_A_DEVICE = """\
import sys
for name in ("torch", "onnxscript", "onnx"):
    sys.modules[name] = None
import numpy, attn_export
with attn_export.load(sys.argv[1], threads=1) as network:
    print(network(numpy.load(sys.argv[2]))["output"].tolist())
"""


@pytest.fixture
def folder(built: EngineFile, tmp_path: Path) -> Path:
    """A folder with an engine for sm86, its ONNX file and latencies."""
    onnx = built.path.with_name("a.onnx")
    report = measured(onnx, {1: 1.0, 4: 2.0})
    return write_device_folder([onnx, built.path], tmp_path / "device", licenses=("Apache-2.0",), report=report)


def pretend(monkeypatch: pytest.MonkeyPatch, *here: Gpu, version: str = "") -> list[Path]:
    """A machine with these GPUs; returns the engines that TensorRT would open, which are answered by ONNX Runtime."""
    opened: list[Path] = []

    def engine(path: Path, signature: Any, settings: Any) -> Any:
        from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime

        opened.append(path)
        return OnnxRuntime(path.with_name("a.onnx"), signature, settings)

    real = import_module("tensorrt_rtx").__version__
    backend = Backend("tensorrt-rtx", SimpleNamespace(__version__=version or real))
    monkeypatch.setattr("attn_export.exporter.system.gpus.found", lambda: here)
    monkeypatch.setattr(load_device, "load_backend", lambda _: backend)
    monkeypatch.setattr("attn_export.exporter.runtimes.tensorrt.TensorRT", engine)
    return opened


def test_the_manifest_says_what_a_device_has_to_know(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert (manifest.name, manifest.onnx, manifest.engines) == ("a", "a.onnx", ("a.engine",))
    assert manifest.class_names == tuple(FACTS["class_names"])
    assert manifest.source_sha256 == CHECKPOINT
    assert manifest.verdict is not None
    assert manifest.verdict.agrees
    assert [(one.artifact, one.batch) for one in manifest.latencies] == [("a.onnx", 1), ("a.onnx", 4)]
    assert (manifest.inputs[0].shape, manifest.inputs[0].dynamic_axes[0].name) == ((1, 3, 8, 8), "batch")
    assert set(manifest.files) == {"a.onnx", "a.engine", "a.engine.json"}
    assert manifest.files["a.onnx"].licenses == ("Apache-2.0",)
    assert manifest.files["a.engine"].licenses == ("Apache-2.0", "LicenseRef-NVIDIA-TensorRT")
    assert {path.name for path in folder.iterdir()} == {*manifest.files, MANIFEST}


def test_without_a_gpu_it_falls_back_aloud(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    with pytest.warns(FallbackWarning, match=r"runs a.onnx on the CPU: a.engine needs a GPU"):
        network = load(folder, threads=1)
    with network:
        np.testing.assert_allclose(network(IMAGES)["output"], ANSWERS, rtol=1e-5)
        np.testing.assert_allclose(network({"input": IMAGES[:1]})["output"], ANSWERS[:1], rtol=1e-5)
        assert (network.artifact, list(network.refused)) == ("a.onnx", ["a.engine"])
        with pytest.raises(UsageError, match="float64"):
            network(IMAGES.astype(np.float64))


@pytest.mark.filterwarnings("ignore::attn_export.exporter.workflows.load_device.FallbackWarning")
def test_without_an_engine_a_file_is_run_that_onnx_runtime_can_run(tmp_path: Path) -> None:
    """Whatever the order in which the shell names the files."""
    half = classifier(tmp_path / "a.bf16.onnx", dtype=TensorProto.BFLOAT16)
    write_device_folder([half, classifier(tmp_path / "a.onnx")], tmp_path / "device")
    with load(tmp_path / "device", threads=1) as network:
        assert network.artifact == "a.onnx"


def test_the_engine_for_the_gpu_is_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = pretend(monkeypatch, AMPERE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network = load(folder, threads=1)
    assert (network.artifact, opened) == ("a.engine", [folder / "a.engine"])
    network.close()


def test_the_engine_of_another_gpu_or_tensorrt_is_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = pretend(monkeypatch, ADA)
    with pytest.warns(FallbackWarning, match="was built for sm86, but this machine's NVIDIA L4 is sm89"):
        load(folder, threads=1).close()
    opened = pretend(monkeypatch, AMPERE, version="9.9")
    with pytest.warns(FallbackWarning, match=r"was built by tensorrt-rtx .*, but tensorrt-rtx 9.9 is installed"):
        load(folder, threads=1).close()
    assert opened == []


def test_a_device_needs_no_torch(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    words = [sys.executable, "-c", ON_A_DEVICE, str(folder), str(tmp_path / "images.npy")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "FallbackWarning" in done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), ANSWERS, rtol=1e-5)


@pytest.mark.filterwarnings("ignore::attn_export.exporter.workflows.load_device.FallbackWarning")
@pytest.mark.parametrize("name", ["a.engine", "a.engine.json", "a.onnx"])
def test_a_changed_file_is_not_run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, *([] if name == "a.onnx" else [AMPERE]))
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ChangedPackageError, match=f"{name} was changed"):
        load(folder)


@pytest.mark.filterwarnings("ignore::attn_export.exporter.workflows.load_device.FallbackWarning")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d["files"]["a.onnx"].update(sha256="0" * 64), "a.onnx was changed"),
        (lambda d: d.update(onnx="../a.onnx"), "isn't listed"),
        (lambda d: d["files"].update({"../x": d["files"]["a.onnx"]}), "not a plain file name"),
        (lambda d: d.update(engines=["b.engine"]), "isn't listed"),
        (lambda d: d.update(schema_version=1), "schema version 1"),
        (lambda d: d.pop("inputs"), "inputs"),
    ],
)
def test_a_bent_manifest_is_refused(change: Any, says: str, folder: Path) -> None:
    document = json.loads((folder / MANIFEST).read_text())
    change(document)
    (folder / MANIFEST).write_text(json.dumps(document))
    with pytest.raises((UnreadablePackageError, ChangedPackageError), match=says):
        load(folder)


def test_a_folder_of_other_things_is_no_device_folder(tmp_path: Path) -> None:
    with pytest.raises(UnreadablePackageError, match=r"manifest.json can't be read"):
        load(tmp_path)


def test_a_folder_that_holds_something_stays(tmp_path: Path) -> None:
    (tmp_path / "device").mkdir()
    (tmp_path / "device" / "photo.jpg").write_text("mine")
    with pytest.raises(OutputError, match="isn't empty"):
        write_device_folder([classifier(tmp_path / "a.onnx")], tmp_path / "device")
    assert [path.name for path in (tmp_path / "device").iterdir()] == ["photo.jpg"]


def test_names_that_other_systems_cannot_have_are_refused(tmp_path: Path) -> None:
    for name in ("a\n.onnx", "a:b.onnx"):
        with pytest.raises(OutputError, match="not every system"):
            write_device_folder([classifier(tmp_path / name)], tmp_path / "device")
    assert not (tmp_path / "device").exists()


def test_everything_that_was_written_is_listed(tmp_path: Path) -> None:
    private, _ = write_keys(tmp_path)
    settings = PackageSettings(repository=tmp_path / "models", device=tmp_path / "device", key=private)
    found = package(classifier(tmp_path / "a.onnx"), settings)
    written = [path for name in ("models", "device") for path in (tmp_path / name).rglob("*") if path.is_file()]
    assert found.files == {str(path): path.stat().st_size for path in written}
    assert len(found.files) == 4 + 3


def test_an_empty_folder_is_filled_and_not_replaced(tmp_path: Path) -> None:
    """It may be a mounted card, which can't be renamed, with a file system of its own."""
    device = tmp_path / "device"
    device.mkdir()
    before = device.stat().st_ino
    write_device_folder([classifier(tmp_path / "a.onnx")], device)
    assert device.stat().st_ino == before
    assert sorted(path.name for path in device.iterdir()) == ["a.onnx", MANIFEST]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills need a process of their own")
@pytest.mark.parametrize("kind", ["repository", "device"])
def test_after_a_kill_between_two_results_a_folder_can_be_filled_again(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources, place = [classifier(tmp_path / f"{name}.onnx") for name in "abc"], tmp_path / "place"
    place.mkdir()
    settings = PackageSettings(repository=place) if kind == "repository" else PackageSettings(device=place)
    replace = Path.replace
    if (pid := os.fork()) == 0:
        monkeypatch.setattr(Path, "replace", lambda path, new: os._exit(9) if new.stem == "b" else replace(path, new))
        package(sources, settings)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert len([path for path in place.iterdir() if path.stem == "a"]) == 1
    found = package(sources, settings)
    assert {Path(name).relative_to(place).parts[0] for name in found.files} == {path.name for path in place.iterdir()}


@pytest.mark.filterwarnings("ignore::attn_export.exporter.workflows.load_device.FallbackWarning")
def test_with_a_key_only_what_is_signed_is_opened(tmp_path: Path) -> None:
    folder = write_device_folder([classifier(tmp_path / "a.onnx")], tmp_path / "device", bom=True)
    private, public = write_keys(tmp_path)
    with pytest.raises(UnreadablePackageError, match="isn't signed"):
        load(folder, key=public)
    sign_folder(folder, private)
    load(folder, key=public, threads=1).close()
    with pytest.raises(ChangedPackageError, match="isn't signed with the key"):
        load(folder, key=write_keys(tmp_path / "other")[1])
    (folder / MANIFEST).write_text((folder / MANIFEST).read_text().replace("a.onnx", "b.onnx"))
    with pytest.raises(ChangedPackageError, match=f"{MANIFEST} was changed"):
        load(folder, key=public)


def test_an_engine_of_another_file_is_refused(built: EngineFile, tmp_path: Path) -> None:
    other = classifier(tmp_path / "a.onnx", facts=PIXELS)
    with pytest.raises(InputError, match="built from another file"):
        write_device_folder([other, built.path], tmp_path / "device")
    with pytest.raises(UsageError, match="has an ONNX file"):
        write_device_folder([built.path], tmp_path / "device")
    assert not (tmp_path / "device").exists()


def test_a_changed_engine_is_not_packaged(built: EngineFile, tmp_path: Path) -> None:
    for name in ("a.onnx", "a.engine"):
        shutil.copy(built.path.with_name(name), tmp_path)
    write_sidecar(tmp_path / "a.engine", structs.replace(built.record, sha256="0" * 64))
    with pytest.raises((UnreadableEngineError, InputError), match="was changed after its build"):
        write_device_folder([tmp_path / "a.onnx", tmp_path / "a.engine"], tmp_path / "device")


def test_names_with_spaces_and_sizes_that_nothing_says(tmp_path: Path) -> None:
    source = classifier(tmp_path / "my net.onnx", ("batch", 8, 8, 3), PIXELS, TensorProto.UINT8)
    folder = write_device_folder([source], tmp_path / "my device", labels=("a", "b", "c"))
    with pytest.warns(FallbackWarning, match="holds no engine"), load(folder, threads=1) as network:
        assert network(np.zeros((5, 8, 8, 3), np.uint8))["output"].shape == (5, 3)
    assert network.manifest.class_names == ("a", "b", "c")
    open_sizes = classifier(tmp_path / "open.onnx", ("batch", 3, "height", "width"))
    with pytest.raises(InputError, match="nothing says how large"):
        write_device_folder([open_sizes], tmp_path / "other")


def test_load_is_the_package_s_own() -> None:
    assert import_module("attn_export").load is load
