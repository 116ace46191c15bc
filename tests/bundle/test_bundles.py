"""Bundles, written and read again: what is in them, and that they appear whole or not at all."""

import os
import re
import shlex
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, Mock

import numpy as np
import onnx
import pytest
from msgspec import structs

from attn_export.exporter.artifacts import Precision
from attn_export.exporter.bundle.read import read_bundle
from attn_export.exporter.bundle.readme import trtexec
from attn_export.exporter.bundle.write import write_bundle
from attn_export.exporter.engine.graph import read_graph
from attn_export.exporter.engine.profile import Sizes, make_profile
from attn_export.exporter.errors import OutputError, UnreadableGraphError, UsageError
from attn_export.exporter.network.images import POOL
from attn_export.exporter.records.engine import BuildOptions, Range
from attn_export.exporter.system.files import sha256_of
from attn_export.exporter.validation.golden import golden_of_file, golden_of_reference
from attn_export.exporter.workflows.deploy import pack_bundles


def write(cbam: Any, out: Path, source: Path | None = None, **changes: Any) -> Path:
    words: dict[str, Any] = {
        "facts": cbam.facts,
        "profile": cbam.profile,
        "architecture": "sm87",
        "precision": Precision.FP32,
        "options": BuildOptions(),
        "golden": cbam.golden,
    }
    return write_bundle(out, source or cbam.file.path, **{**words, **changes})


def page(bundle: Path) -> str:
    with zipfile.ZipFile(bundle) as archive:
        return archive.read("README.md").decode()


def command_in(text: str) -> list[str]:
    found = re.search(r"^/usr/src/tensorrt/bin/trtexec.*?(?=^```)", text, re.DOTALL | re.MULTILINE)
    assert found
    return shlex.split(found[0].replace("\\\n", " "))


# What is in it.


@pytest.mark.parametrize("name", ["se_resnet8", "cbam_resnet8"])
def test_what_was_written_is_read(name: str, made: Callable[[str], Any], tmp_path: Path) -> None:
    whole = made(name)
    bundle = read_bundle(whole.bundle)
    manifest = bundle.manifest
    assert (manifest.name, manifest.architecture, manifest.precision) == (f"{name}.sm87", "sm87", Precision.FP32)
    assert manifest.options == BuildOptions(workspace_mib=256)
    assert manifest.profile == whole.profile
    assert manifest.files[manifest.onnx].sha256 == sha256_of(whole.file.path)
    assert bundle.sha256 == sha256_of(whole.bundle)
    assert bundle.signature.output_names == whole.file.signature.output_names
    assert bundle.golden.limits == whole.golden.limits
    for got, meant in zip(bundle.golden.groups, whole.golden.groups, strict=True):
        assert np.array_equal(got.arrays["input"], meant.arrays["input"])
        assert all(np.array_equal(got.expected[output], meant.expected[output]) for output in meant.expected)
    with bundle.unpacked(tmp_path) as facts:
        assert facts.path.read_bytes() == whole.file.path.read_bytes()
        assert read_graph(facts.path) == facts, "what the bundle knows of the graph is what is found in it"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_a_bundle_was_extracted_to_is_the_same_bundle(cbam: Any, extracted: Path, tmp_path: Path) -> None:
    (extracted / "built-later.engine").write_bytes(b"engine")
    bundle, zipped = read_bundle(extracted), read_bundle(cbam.bundle)
    assert bundle.manifest == zipped.manifest
    with bundle.unpacked(tmp_path) as facts:
        assert facts.path == extracted / bundle.manifest.onnx


def test_the_bundle_knows_what_it_was_made_with(cbam: Any) -> None:
    manifest = read_bundle(cbam.bundle).manifest
    assert (manifest.schema_version, manifest.tensorrt) == (3, "10.3")
    assert {"attn-export", "torch", "onnx"} <= manifest.made_with.packages.keys()
    assert manifest.golden.reference == "PyTorch in float64, each image alone"
    assert {block.kind for block in manifest.graph.blocks} == {"CBAM"}


def test_the_timing_cache_stays_where_it_is(cbam: Any, tmp_path: Path) -> None:
    bundle = write(cbam, tmp_path / "x.sm87.bundle.zip", options=BuildOptions(timing_cache=Path("/secret/cache")))
    assert read_bundle(bundle).manifest.options.timing_cache is None
    with zipfile.ZipFile(bundle) as archive:
        assert not any(b"/secret" in archive.read(name) for name in archive.namelist())


def test_a_xavier_gets_no_bundle(cbam: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Xavier"):
        write(cbam, tmp_path / "x.bundle.zip", architecture="sm72")
    assert list(tmp_path.iterdir()) == []


# Weights outside of the file.


def with_weights_outside(source: Path, path: Path, location: str) -> Path:
    model = onnx.load(source)
    onnx.save_model(
        model, path, save_as_external_data=True, all_tensors_to_one_file=True, location=location, size_threshold=0
    )
    return path


@pytest.mark.parametrize("location", ["big.onnx.data", "other.bin", "weights/other.bin"])
def test_weights_outside_of_the_file_go_along(location: str, cbam: Any, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    source = with_weights_outside(cbam.file.path, tmp_path / "big.onnx", location)
    bundle = write(cbam, tmp_path / "x.bundle.zip", source)
    with read_bundle(bundle).unpacked(tmp_path) as facts:
        again = onnx.load(facts.path)
        meant = onnx.load(source)
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in again.graph.initializer}
    assert all(np.array_equal(arrays[t.name], onnx.numpy_helper.to_array(t)) for t in meant.graph.initializer)


@pytest.mark.parametrize("name", ["bundle.json", "README.md", "golden.npz", "a\\b.onnx", "a:b.onnx"])
def test_a_graph_of_an_impossible_name_gets_another(name: str, cbam: Any, tmp_path: Path) -> None:
    source = tmp_path / name
    source.write_bytes(cbam.file.path.read_bytes())
    assert read_bundle(write(cbam, tmp_path / "x.bundle.zip", source)).manifest.onnx == "model.onnx"


def test_a_damaged_graph_gets_no_bundle(cbam: Any, tmp_path: Path) -> None:
    source = tmp_path / "m.onnx"
    source.write_bytes(cbam.file.path.read_bytes()[:-1000])
    with pytest.raises(UnreadableGraphError):
        write(cbam, tmp_path / "x.bundle.zip", source)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


# Whole or not at all.


@pytest.mark.usefixtures("small_files_only")
def test_a_full_disk_leaves_nothing_behind(cbam: Any, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"x\.bundle\.zip can't be written") as caught:
        write(cbam, tmp_path / "x.bundle.zip")
    assert caught.value.exit_code == 6
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small_files_only")
def test_a_full_disk_leaves_an_older_bundle_as_it_is(cbam: Any, tmp_path: Path) -> None:
    (tmp_path / "x.bundle.zip").write_bytes(b"older")
    with pytest.raises(OutputError):
        write(cbam, tmp_path / "x.bundle.zip")
    assert (tmp_path / "x.bundle.zip").read_bytes() == b"older"


@pytest.mark.usefixtures("small_files_only")
def test_a_full_device_says_so(cbam: Any, tmp_path: Path) -> None:
    with pytest.raises(OutputError), read_bundle(cbam.bundle).unpacked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a:b", "a\nb", "a\x1b[2Jb", "a\\b"])
def test_a_name_that_other_systems_cannot_have_is_refused(name: str, cbam: Any, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not every system"):
        write(cbam, tmp_path / f"{name}.sm87.bundle.zip")
    assert not list(tmp_path.iterdir())


def test_a_place_that_is_no_folder_is_refused(cbam: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError):
        write(cbam, tmp_path / "file" / "x.bundle.zip")
    with pytest.raises(OutputError):
        write(cbam, Path("/proc/x.bundle.zip"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_read_only_folder_is_refused(cbam: Any, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o555)
    with pytest.raises(OutputError):
        write(cbam, folder / "x.bundle.zip")


# The page.


def test_trtexec_gets_the_profile(cbam: Any) -> None:
    words = command_in(page(cbam.bundle))
    (taken,) = cbam.profile.values()
    for option, shape in (("min", taken.min), ("opt", taken.opt), ("max", taken.max)):
        assert f"--{option}Shapes=input:{'x'.join(map(str, shape))}" in words
    assert {"--stronglyTyped", "--noTF32", "--onnx=cbam_resnet8.onnx", "--memPoolSize=workspace:256M"} <= set(words)


@pytest.mark.parametrize(
    ("options", "there", "missing"),
    [
        (BuildOptions(), "--noTF32", "--memPoolSize"),
        (BuildOptions(tf32=True), "--stronglyTyped", "--noTF32"),
        (BuildOptions(version_compatible=True), "--versionCompatible", "ampere"),
        (BuildOptions(hardware_compatible=True), "--hardwareCompatibilityLevel=ampere+", "--versionCompatible"),
    ],
)
def test_trtexec_gets_the_options(options: BuildOptions, there: str, missing: str, cbam: Any, tmp_path: Path) -> None:
    words = command_in(page(write(cbam, tmp_path / "x.bundle.zip", options=options)))
    assert there in words
    assert missing not in " ".join(words)


def test_trtexec_gets_no_shapes_for_a_fixed_input(cbam: Any) -> None:
    manifest = read_bundle(cbam.bundle).manifest
    fixed = structs.replace(manifest, graph=replace(manifest.graph, inputs={"input": (1, 3, 32, 32)}))
    assert not any("Shapes" in word for word in trtexec(fixed, "m.engine"))
    dynamic = structs.replace(
        manifest,
        graph=replace(manifest.graph, inputs={"x:0": ("N", 3)}),
        profile={**manifest.profile, "x:0": Range((1, 3), (2, 3), (4, 3))},
    )
    assert "--optShapes='x:0':2x3" in trtexec(dynamic, "m.engine")


def test_names_with_spaces_are_quoted(cbam: Any, tmp_path: Path) -> None:
    source = tmp_path / "my model.onnx"
    source.write_bytes(cbam.file.path.read_bytes())
    words = command_in(page(write(cbam, tmp_path / "my model.sm87.bundle.zip", source)))
    assert "--onnx=my model.onnx" in words
    assert "--saveEngine=my model.sm87.engine" in words


def test_the_page_checks_the_checksums(cbam: Any, tmp_path: Path) -> None:
    import subprocess
    import sys

    script = re.search(r"<<'EOF'\n(.*?)EOF", page(cbam.bundle), re.DOTALL)
    assert script
    done = subprocess.run([sys.executable, "-c", script[1]], cwd=cbam.bundle.parent, capture_output=True, text=True)
    assert sorted(done.stdout.split()) == sorted(["ok"] * 3 + ["cbam_resnet8.onnx", "README.md", "golden.npz"])


def test_a_late_opset_is_mentioned(cbam: Any, tmp_path: Path) -> None:
    assert "opset" not in page(cbam.bundle)
    model = onnx.load(cbam.file.path)
    model.opset_import[0].version = 21
    source = tmp_path / "m.onnx"
    onnx.save(model, source)
    assert "ONNX opset 21" in page(write(cbam, tmp_path / "x.bundle.zip", source))


# Golden inputs and outputs.


def test_the_images_are_the_references_and_run_in_the_profiles_batches(cbam: Any) -> None:
    (group,) = cbam.golden.groups
    assert [len(batch) for batch in group.batches] == [1, 2, 4, 4, 4]
    assert {row for batch in group.batches[2:] for row in batch} == set(range(len(POOL)))
    assert sorted(group.kinds) == sorted(POOL)
    assert group.kinds[:2] == ("natural", "noise")
    every = {image.tobytes() for batch in cbam.reference.batches for image in batch.arrays["input"]}
    assert {image.tobytes() for image in group.arrays["input"]} == every
    assert set(cbam.golden.limits) == {"output"}


def test_a_large_batch_holds_every_image_before_any_again(cbam: Any) -> None:
    profile = make_profile(cbam.facts.inputs, Sizes(batch=(1, 8, 32)))
    golden = golden_of_reference(cbam.reference, cbam.file.signature, profile, Precision.FP32)
    one, eight, many = golden.groups[0].batches
    assert (len(one), len(eight), len(many)) == (1, 8, 32)
    assert set(eight) == set(range(8))
    assert many[8:16] != many[:8]


def test_images_of_224_take_a_few_megabytes(cbam: Any) -> None:
    from attn_export.exporter.bundle.packing import MOST_BYTES, Loose, packed

    images = np.zeros((32, 3, 224, 224), np.float32)
    loose = Loose({"input": images}, ("natural", "noise") * 16, {"output": np.zeros((32, 1000))})
    shape = (1, 3, 224, 224)
    group = packed(loose, {"input": Range(shape, shape, (64, 3, 224, 224))}, MOST_BYTES)
    assert 2 <= len(group.arrays["input"]) <= 10
    assert group.arrays["input"].nbytes <= MOST_BYTES
    assert [len(batch) for batch in group.batches] == [1, 64]
    few = packed(loose, {"input": Range(shape, shape, (4, 3, 224, 224))}, MOST_BYTES)
    assert [len(batch) for batch in few.batches] == [1, 4, 4, 4]
    assert {row for batch in few.batches[1:] for row in batch} == set(range(len(few.arrays["input"])))


def test_precisions_have_their_own_limits(cbam: Any) -> None:
    half = golden_of_reference(cbam.reference, cbam.file.signature, cbam.profile, Precision.FP16)
    for kind, limit in half.limits["output"].items():
        assert limit.baseline > 10 * cbam.golden.limits["output"][kind].baseline
    assert "float16" in half.baseline


def test_a_profile_without_any_of_the_images_is_refused(cbam: Any) -> None:
    shape = (1, 3, 64, 64)
    with pytest.raises(UsageError, match="64×64") as caught:
        golden_of_reference(cbam.reference, cbam.file.signature, {"input": Range(shape, shape, shape)}, Precision.FP32)
    assert "32×32" in caught.value.hint


def test_a_file_without_a_checkpoint_is_judged_by_what_onnx_runtime_computes(cbam: Any, tmp_path: Path) -> None:
    golden = golden_of_file(cbam.facts, cbam.profile, threads=1)
    assert "ONNX Runtime" in golden.reference
    assert [len(batch) for batch in golden.groups[0].batches] == [1, 2, 4]
    limit = golden.limits["output"]["noise"]
    assert limit.baseline >= 8 * np.finfo(np.float32).eps
    assert limit.baseline < 1e-5
    bundle = read_bundle(write(cbam, tmp_path / "x.bundle.zip", golden=golden, precision=None))
    assert bundle.manifest.precision is None
    assert "ONNX Runtime" in bundle.manifest.golden.reference


@pytest.mark.parametrize(
    ("inputs", "words"),
    [("string[N, 3] x, float[N, 3] y", "takes x: tensor"), ("double[N, 3] x", "tensor\\(double\\)")],
)
def test_what_takes_no_image_gets_no_golden_outputs(inputs: str, words: str, tmp_path: Path) -> None:
    kind = inputs.partition("[")[0]
    text = f'<ir_version: 10, opset_import: ["" : 20]> g ({inputs}) => ({kind}[N, 3] z) {{ z = Identity(x) }}'
    path = tmp_path / "m.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    facts = read_graph(path)
    profile = make_profile(facts.inputs, Sizes())
    with pytest.raises(UsageError, match=words):
        golden_of_file(facts, profile, 1)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_fixed_batch_runs_as_it_is(batch: int, tmp_path: Path) -> None:
    text = (
        f'<ir_version: 10, opset_import: ["" : 20]> g (float[{batch}, 5] x) => (float[{batch}, 5] z) {{ z = Relu(x) }}'
    )
    path = tmp_path / "m.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    facts = read_graph(path)
    profile = make_profile(facts.inputs, Sizes())
    (group,) = golden_of_file(facts, profile, 1).groups
    assert {len(b) for b in group.batches} == {batch}
    assert {row for b in group.batches for row in b} == set(range(len(group.kinds)))
    assert np.array_equal(group.expected["z"], np.maximum(group.arrays["x"], 0))


def test_a_network_that_computes_nan_gets_no_golden_outputs(tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["" : 20]> g (float[N, 5] x) => (float[N, 5] z) { z = Log(x) }'
    path = tmp_path / "m.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    facts = read_graph(path)
    with pytest.raises(UnreadableGraphError, match="NaN"):
        golden_of_file(facts, make_profile(facts.inputs, Sizes()), 1)


@pytest.mark.parametrize("precision", [Precision.BF16, Precision.FP16])
def test_a_jetson_s_parser_may_be_too_old_for_bfloat16(precision: Precision, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = Mock()
    monkeypatch.setattr("attn_export.exporter.bundle.write.write_bundle", Mock())
    pack_bundles(MagicMock(precision=precision, targets=Mock(bundles=["sm87"])), Mock(), MagicMock(note=notes))
    assert [call.args[0].startswith("sm87: bfloat16 takes opset 22") for call in notes.call_args_list] == (
        [True] if precision is Precision.BF16 else []
    )
