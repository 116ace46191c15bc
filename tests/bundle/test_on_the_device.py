"""What happens on a device: a build without torch, ONNX Runtime and onnxscript, and the judgement of what was built."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest

from attn_export.cli import run
from attn_export.exporter.artifacts import Signature
from attn_export.exporter.bundle.read import read_bundle
from attn_export.exporter.engine.profile import Sizes
from attn_export.exporter.engine.settings import EngineSettings
from attn_export.exporter.engine.sidecar import read_sidecar
from attn_export.exporter.errors import RuntimeUnavailableError, UsageError
from attn_export.exporter.network.images import POOL
from attn_export.exporter.records.document import plain
from attn_export.exporter.records.engine import BuildOptions
from attn_export.exporter.runtimes.base import Runtime, Settings
from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime
from attn_export.exporter.system import gpus
from attn_export.exporter.system.gpus import Gpu
from attn_export.exporter.workflows import validate_bundle
from attn_export.exporter.workflows.build_bundle import settings_for_bundle
from attn_export.exporter.workflows.validate_bundle import validate_with_bundle
from tests.engine.building import build_file

# Put first into a process: what a device lacks can't be imported there.
LACKING = """
import importlib.abc, sys
class Lacking(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "onnxruntime", "onnxscript"):
            raise ImportError(f"{name} isn't on the device", name=name)
sys.meta_path.insert(0, Lacking())
"""
ORIN, RTX = Gpu("Orin", "8.7"), Gpu("NVIDIA RTX A2000", "8.6")
without_gpu = pytest.mark.skipif(bool(gpus.found()), reason="this machine has a GPU")


def on_the_device(script: str, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", LACKING + script, *words], capture_output=True, text=True, timeout=600, check=False
    )


# Building.

BUILD = """
from attn_export.exporter.engine.job import EngineSettings
from attn_export.exporter.workflows.build_bundle import build_bundle
made = build_bundle(sys.argv[1], sys.argv[2], EngineSettings(gpus=("sm86",), backend="tensorrt-rtx"))
assert made.path.exists()
assert not {"torch", "onnxruntime", "onnxscript"} & set(sys.modules)
"""


@pytest.fixture(scope="session")
def engine(made: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the bundle, as a device would."""
    pytest.importorskip("tensorrt_rtx")
    path = tmp_path_factory.mktemp("device") / "cbam.engine"
    done = on_the_device(BUILD, str(made("cbam_resnet8").bundle), str(path))
    assert done.returncode == 0, done.stderr
    return path


def test_the_command_needs_no_more(cbam: Any, tmp_path: Path) -> None:
    script = """
from attn_export.cli import run
words = ["build", sys.argv[1], "-o", sys.argv[2], "--gpu", "sm86", "--backend", "tensorrt-rtx", "--quiet"]
assert run(words) == 0
assert run(["inspect", sys.argv[2]]) == 0
assert run(["doctor", "--json"]) == 0
"""
    done = on_the_device(script, str(cbam.bundle), str(tmp_path / "m.engine"))
    assert done.returncode == 0, done.stderr
    assert "layer1.0.attention" in done.stdout


def sidecar_of(engine: Path) -> dict[str, Any]:
    record = read_sidecar(engine)
    assert record is not None
    return plain(record)


def test_the_engine_of_a_bundle_is_built_with_what_a_device_has(engine: Path, cbam: Any) -> None:
    record, bundle = sidecar_of(engine), read_bundle(cbam.bundle)
    assert record["bundle"] == {"path": cbam.bundle.name, "sha256": bundle.sha256}
    assert record["onnx"] == {
        "path": bundle.manifest.onnx,
        "sha256": bundle.manifest.files[bundle.manifest.onnx].sha256,
        "weights_sha256": {},
    }
    assert record["gpus"] == ["sm86"]
    assert record["precision"]["requested"] == "fp32"
    assert record["precision"]["kernels"] == ["FLOAT"]
    assert record["options"]["workspace_mib"] == 256
    assert record["profile"]["input"]["max"] == [4, 3, 32, 32]
    assert [block["kind"] for block in record["attention"]] == ["CBAM"] * 3
    assert [block["kind"] for block in record["cost"]["blocks"]] == ["CBAM"] * 3
    assert record["cost"]["kernels"] > record["cost"]["kernels_without_attention"]
    assert sorted(path.name for path in engine.parent.iterdir()) == ["cbam.engine", "cbam.engine.json"]


def test_it_is_the_engine_that_the_file_itself_gives(engine: Path, cbam: Any, tmp_path: Path) -> None:
    settings = EngineSettings(gpus=("sm86",), backend="tensorrt-rtx", sizes=Sizes(batch=(1, 2, 4)))
    build_file(cbam.file.path, tmp_path / "m.engine", settings)
    record, other = sidecar_of(engine), sidecar_of(tmp_path / "m.engine")
    assert other["bundle"] is None
    for key in ("onnx", "profile", "io", "attention", "gpus", "backend", "platform", "cost", "kernels"):
        assert record[key] == other[key], key


def test_an_extracted_bundle_and_se_build_as_well(made: Callable[[str], Any], tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    import shutil

    shutil.unpack_archive(made("se_resnet8").bundle, tmp_path / "bundle", "zip")
    done = on_the_device(BUILD, str(tmp_path / "bundle"), str(tmp_path / "out" / "se.engine"))
    assert done.returncode == 0, done.stderr
    record = sidecar_of(tmp_path / "out" / "se.engine")
    assert [block["kind"] for block in record["attention"]] == ["SE"] * 3


def test_a_cleaned_file_is_read_without_onnxscript_and_another_says_what_it_needs(cbam: Any, tmp_path: Path) -> None:
    script = """
from pathlib import Path
from attn_export.exporter.engine.graph import read_graph
from attn_export.exporter.errors import RuntimeUnavailableError
assert len(read_graph(Path(sys.argv[1])).blocks) == 3
try:
    read_graph(Path(sys.argv[2]))
except RuntimeUnavailableError as error:
    assert "onnxscript" in error.message + error.hint
else:
    raise SystemExit("no inventory, and nobody said so")
"""
    bare = onnx.load(cbam.file.path)
    del bare.metadata_props[:]
    onnx.save(bare, tmp_path / "bare.onnx")
    done = on_the_device(script, str(cbam.file.path), str(tmp_path / "bare.onnx"))
    assert done.returncode == 0, done.stderr


def test_the_command_line_starts_with_what_a_device_has() -> None:
    done = on_the_device("from attn_export.cli import run\nraise SystemExit(run(['validate', '--help']))")
    assert done.returncode == 0, done.stderr
    assert "deployment bundle" in done.stdout


@without_gpu
def test_without_a_gpu_nothing_is_built_and_nothing_run(engine: Path, cbam: Any, tmp_path: Path) -> None:
    script = f"""
from attn_export.cli import run
from attn_export.exporter.workflows.build_bundle import build_bundle
from attn_export.exporter.errors import RuntimeUnavailableError
try:
    build_bundle({str(cbam.bundle)!r}, {str(tmp_path / "m.engine")!r})
except RuntimeUnavailableError as error:
    assert "no GPU" in error.message
else:
    raise SystemExit("it was built")
raise SystemExit(run(["validate", {str(cbam.bundle)!r}, {str(engine)!r}, "--quiet"]))
"""
    done = on_the_device(script)
    assert done.returncode == 5, done.stderr
    assert "no GPU" in done.stderr
    assert list(tmp_path.iterdir()) == []


def settings(bundle: Path, here: Gpu | None, **asked: Any) -> EngineSettings:
    return settings_for_bundle(read_bundle(bundle), EngineSettings(**asked), (here,) if here else ())


def test_on_its_device_the_classic_tensorrt_builds(cbam: Any) -> None:
    made = settings(cbam.bundle, ORIN)
    assert (made.backend, made.gpus) == ("tensorrt", ("current",))
    assert made.options == BuildOptions(workspace_mib=256)
    assert settings(cbam.bundle, ORIN, gpus=("sm87",)).gpus == ("sm87",)


def test_the_device_has_a_say_in_what_is_its_own(cbam: Any, tmp_path: Path) -> None:
    own = BuildOptions(workspace_mib=64, timing_cache=tmp_path / "cache")
    made = settings(cbam.bundle, ORIN, options=own, allow_mixed=True)
    assert made.options == own
    assert made.allow_mixed


@pytest.mark.parametrize(
    "asked",
    [
        {"sizes": Sizes(batch=(1, 1, 1))},
        {"options": BuildOptions(tf32=True)},
        {"options": BuildOptions(version_compatible=True)},
        {"options": BuildOptions(hardware_compatible=True)},
    ],
)
def test_what_the_bundle_says_is_not_said_again(asked: dict[str, Any], cbam: Any) -> None:
    with pytest.raises(UsageError, match=r"bundle\.zip"):
        settings(cbam.bundle, ORIN, **asked)


def test_another_gpu_has_to_be_asked_for(cbam: Any) -> None:
    with pytest.raises(UsageError, match="is for sm87") as caught:
        settings(cbam.bundle, RTX)
    assert "--gpu current" in caught.value.hint
    assert settings(cbam.bundle, RTX, gpus=("current",)).backend == "tensorrt"
    assert settings(cbam.bundle, RTX, gpus=("sm89",)).backend == "auto"
    with pytest.raises(UsageError, match="is for sm87"):
        settings(cbam.bundle, RTX, gpus=("sm87",))
    with pytest.raises(RuntimeUnavailableError, match="no GPU"):
        settings(cbam.bundle, None, gpus=("sm87",))


# Validating.


@pytest.mark.parametrize("name", ["se_resnet8", "cbam_resnet8"])
def test_the_bundles_own_graph_agrees(
    name: str, made: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = made(name)
    assert run(["validate", str(whole.bundle), str(whole.file.path), "--threads", "1", "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert "agrees" in printed
    assert "DISAGREES" not in printed
    assert run(["validate", str(whole.bundle), str(whole.file.path), "--threads", "1", "--json", "--quiet"]) == 0
    document = json.loads(capsys.readouterr().out)
    verdict = document["validation"]
    assert verdict["agrees"]
    assert verdict["batches"] == [[[1, 3, 32, 32]], [[2, 3, 32, 32]], [[4, 3, 32, 32]]]  # every shape once
    assert {entry["kind"] for entry in verdict["comparisons"]} == set(POOL)
    assert all(entry["ratio"] < 4.5 for entry in verdict["comparisons"])


def changed(source: Path, path: Path, change: Callable[[onnx.ModelProto], object]) -> Path:
    model = onnx.load(source)
    change(model)
    onnx.save(model, path)
    return path


def scale_last_weight(model: onnx.ModelProto, factor: float) -> None:
    tensor = [t for t in model.graph.initializer if len(t.dims) == 2][-1]
    array = onnx.numpy_helper.to_array(tensor) * np.float32(factor)
    tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float32), tensor.name))


@pytest.mark.parametrize("factor", [1.0001, -1, 0, float("nan"), float("inf")])
def test_a_faulty_graph_disagrees(factor: float, cbam: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faulty = changed(cbam.file.path, tmp_path / "faulty.onnx", lambda model: scale_last_weight(model, factor))
    assert run(["validate", str(cbam.bundle), str(faulty), "--quiet"]) == 1
    printed = capsys.readouterr()
    assert "DISAGREES" in printed.out
    assert f"{faulty.name} doesn't compute" in printed.err
    assert run(["validate", str(cbam.bundle), str(faulty), "--quiet", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert not document["validation"]["agrees"]
    assert document["error"]["exit_code"] == 1
    if not np.isfinite(factor):
        assert document["validation"]["comparisons"][0]["error"] is None


def test_a_bundle_of_a_file_without_checkpoint_judges_as_well(cbam: Any, tmp_path: Path) -> None:
    from attn_export.exporter.bundle.write import write_bundle
    from attn_export.exporter.validation.golden import golden_of_file

    bundle = write_bundle(
        tmp_path / "x.bundle.zip",
        cbam.file.path,
        facts=cbam.facts,
        profile=cbam.profile,
        architecture="sm87",
        precision=None,
        options=BuildOptions(),
        golden=golden_of_file(cbam.facts, cbam.profile, 1),
    )
    assert run(["validate", str(bundle), str(cbam.file.path), "--quiet"]) == 0
    faulty = changed(cbam.file.path, tmp_path / "faulty.onnx", lambda model: scale_last_weight(model, 1.0001))
    assert run(["validate", str(bundle), str(faulty), "--quiet"]) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 1), "doesn't take"),
        (lambda m: m.graph.output.pop(), "not an ONNX file"),
    ],
)
def test_a_graph_that_takes_something_else_is_refused(
    change: Callable[[Any], object], words: str, cbam: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = changed(cbam.file.path, tmp_path / "other.onnx", change)
    assert run(["validate", str(cbam.bundle), str(other), "--quiet"]) == 3
    assert words in capsys.readouterr().err


def test_a_graph_with_another_input_is_refused(cbam: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = '<ir_version: 10, opset_import: ["" : 20]> g (float[N, 5] x) => (float[N, 5] z) { z = Relu(x) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "other.onnx")
    assert run(["validate", str(cbam.bundle), str(tmp_path / "other.onnx"), "--quiet"]) == 3
    assert "takes x, and the bundle's input is input" in capsys.readouterr().err


# Engines. What would run them is replaced: there is no GPU where the tests run.


class Pretended(Runtime):
    """Stands for TensorRT: computes with the ONNX file, and changes what comes out."""

    name = "pretended"
    graph: ClassVar[Path]
    change: ClassVar[Callable[[dict[str, Any]], dict[str, Any]]]

    def __init__(self, path: Path, signature: Signature, settings: Settings, trust: bool) -> None:
        super().__init__(signature, settings)
        self.inner = OnnxRuntime(type(self).graph, signature, settings)

    @property
    def provenance(self) -> str:
        return "pretended 1.0"

    def _open(self) -> None:
        self.inner.open()

    def _close(self) -> None:
        self.inner.close()

    def upload(self, arrays: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.inner.upload(arrays)

    def infer(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.inner.infer(inputs)

    def download(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        return type(self).change(dict(outputs))


def pretend(cbam: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    return type("Changed", (Pretended,), {"graph": cbam.file.path, "change": staticmethod(change)})


def reordered(outputs: dict[str, Any]) -> dict[str, Any]:
    return {name: array[::-1] for name, array in outputs.items()}


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], bool]] = {
    "none": (lambda outputs: outputs, True),
    "half an eps": (lambda outputs: {k: a * np.float32(1 + 2e-7) for k, a in outputs.items()}, True),
    "scaled": (lambda outputs: {k: a * np.float32(1.0001) for k, a in outputs.items()}, False),
    "in float16": (lambda outputs: {k: a.astype(np.float16) for k, a in outputs.items()}, False),
    "batch reversed": (reordered, False),
    "first image for all": (lambda outputs: {k: np.repeat(a[:1], len(a), 0) for k, a in outputs.items()}, False),
    "an output too few": (lambda outputs: {}, False),
    "of another size": (lambda outputs: {k: a[:, :-1] for k, a in outputs.items()}, False),
    "not a number": (lambda outputs: {k: a * np.float32("nan") for k, a in outputs.items()}, False),
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_engine_is_judged_by_what_it_computes(
    name: str, engine: Path, cbam: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, agrees = CHANGES[name]
    monkeypatch.setattr(validate_bundle, "check_engine", lambda *_, trust: None)  # it wants a GPU
    monkeypatch.setattr(validate_bundle, "open_engine", pretend(cbam, change))
    _, judgement, _ = validate_with_bundle(cbam.bundle, engine, threads=1)
    assert judgement.agrees is agrees
    assert judgement.runtime == "pretended 1.0"
    assert judgement.batches == tuple(((n, 3, 32, 32),) for n in (1, 2, 4))


def test_the_limits_are_those_of_the_whole_validation(cbam: Any) -> None:
    """The same file, judged where the network is and where only the bundle is: the same error, the same ratio."""
    from attn_export.exporter.validation.validate import validate

    verdict = validate(cbam.file, cbam.reference, Settings(threads=1))
    _, judgement, _ = validate_with_bundle(cbam.bundle, cbam.file.path, threads=1)
    worst = verdict.worst_of("output")
    assert worst is not None
    assert judgement.worst.baseline == pytest.approx(worst.baseline)
    assert judgement.worst.ratio == pytest.approx(worst.ratio, rel=0.5)


@without_gpu
@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda e: None, 5, "no GPU"),
        (lambda e: e.unlink(), 3, "can't be read"),
        (lambda e: e.write_bytes(b""), 3, "is empty"),
        (lambda e: e.write_bytes(e.read_bytes()[:-1]), 3, "is truncated"),
        (lambda e: e.open("ab").write(b"x"), 3, "was changed"),
        (lambda e: e.with_name(f"{e.name}.json").unlink(), 3, "has no record"),
        (lambda e: e.with_name(f"{e.name}.json").write_text("{}"), 3, "is not the record"),
    ],
)
def test_an_engine_that_may_not_be_loaded_is_refused_before_it_is(
    change: Callable[[Path], object],
    code: int,
    words: str,
    engine: Path,
    cbam: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = tmp_path / engine.name
    for name in (engine.name, f"{engine.name}.json"):
        (tmp_path / name).write_bytes((engine.parent / name).read_bytes())
    change(copy)
    assert run(["validate", str(cbam.bundle), str(copy), "--quiet"]) == code
    assert words in capsys.readouterr().err


def test_an_engine_for_other_shapes_is_refused(
    engine: Path, cbam: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.engine").write_bytes(engine.read_bytes())
    record = sidecar_of(engine)
    record["profile"]["input"]["max"] = [2, 3, 32, 32]
    (tmp_path / "m.engine.json").write_text(json.dumps(record))
    assert run(["validate", str(cbam.bundle), str(tmp_path / "m.engine"), "--quiet"]) == 3
    assert "doesn't take the bundle's images of 4×3×32×32" in capsys.readouterr().err


def test_the_bundle_may_be_read_already(cbam: Any) -> None:
    bundle = read_bundle(cbam.bundle)
    again, judgement, _ = validate_with_bundle(replace(bundle), cbam.file.path, threads=1)
    assert again == bundle
    assert judgement.agrees
