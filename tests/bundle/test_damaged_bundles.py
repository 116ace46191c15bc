"""Damaged and hostile bundles: exit code 3, and a message."""

import hashlib
import io
import json
import os
import shutil
import stat
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attn_export.cli import run
from attn_export.exporter.bundle.read import read_bundle
from attn_export.exporter.errors import UnreadableBundleError

ONNX = "cbam_resnet8.onnx"


def packed(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    return path


def rewritten(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change ``bundle.json``; its checksums are those of the files as they are now."""
    document = json.loads((folder / "bundle.json").read_text())
    for name, entry in document["files"].items():
        content = (folder / name).read_bytes()
        entry.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    change(document)
    (folder / "bundle.json").write_text(json.dumps(document))


def flipped(path: Path, at: int = 1000) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def put(*keys: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = value

    return change


def dropped(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda document: document.pop(key)


# Of what is in the folder: a change, and words of the message.


def arrays(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Change the golden arrays; the checksums are those of the changed file."""

    def apply(bundle: Path) -> None:
        with np.load(bundle / "golden.npz") as loaded:
            content = dict(loaded)
        change(content)
        np.savez(bundle / "golden.npz", **content)
        rewritten(bundle, lambda _: None)

    return apply


def not_an_archive(bundle: Path) -> None:
    (bundle / "golden.npz").write_bytes(b"PK")
    rewritten(bundle, lambda _: None)


def no_array_inside(bundle: Path) -> None:
    with zipfile.ZipFile(bundle / "golden.npz", "w") as archive:
        archive.writestr("input_0_0", "text")
        archive.writestr("expected_0_0", "text")
    rewritten(bundle, lambda _: None)


def earlier_version(bundle: Path) -> None:
    (bundle / "bundle.json").rename(bundle / "kit.json")


def outside(path: str) -> Callable[[dict[str, Any]], None]:
    """The ONNX file has another path, in all places of the manifest."""

    def change(document: dict[str, Any]) -> None:
        document["graph"]["path"] = path
        document["files"][path] = document["files"].pop(ONNX)

    return change


MISMATCH = "golden.npz: the arrays of group 0 don't match"
CONTENT: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit of the graph": (lambda bundle: flipped(bundle / ONNX), f"the checksum of {ONNX} differs"),
    "a bit of the images": (lambda bundle: flipped(bundle / "golden.npz"), "the checksum of golden.npz differs"),
    "a bit of the page": (lambda bundle: flipped(bundle / "README.md", 40), "the checksum of README.md differs"),
    "a shorter graph": (lambda bundle: (bundle / ONNX).write_bytes(b"short"), f"{ONNX} has 5 bytes"),
    "a longer graph": (lambda bundle: (bundle / ONNX).open("ab").write(b"more"), f"{ONNX} has"),
    "no graph": (lambda bundle: (bundle / ONNX).unlink(), f"{ONNX} is missing"),
    "no images": (lambda bundle: (bundle / "golden.npz").unlink(), "golden.npz is missing"),
    "no bundle.json": (lambda bundle: (bundle / "bundle.json").unlink(), "has no bundle.json"),
    "bundle.json cut": (
        lambda bundle: (bundle / "bundle.json").write_bytes((bundle / "bundle.json").read_bytes()[:-9]),
        "bundle.json: Input data was truncated",
    ),
    "bundle.json is a list": (
        lambda bundle: (bundle / "bundle.json").write_text("[]"),
        "Expected `object`, got `array`",
    ),
    "bundle.json is deep": (lambda bundle: (bundle / "bundle.json").write_text("[" * 10**5), "bundle.json: "),
    "bundle.json is binary": (
        lambda bundle: (bundle / "bundle.json").write_bytes(b"\xff\xfe\x00"),
        "bundle.json: JSON is malformed",
    ),
    "no archive of images": (not_an_archive, "golden.npz: the arrays can't be read"),
    "a pickle for images": (arrays(put("input_0_0", value=np.array([{}], object))), "allow_pickle=False"),
    "texts for images": (no_array_inside, MISMATCH),
    "images are missing": (arrays(dropped("input_0_0")), "the array 'input_0_0' is missing"),
    "outputs are missing": (arrays(dropped("expected_0_0")), "the array 'expected_0_0' is missing"),
    "outputs for images": (arrays(lambda a: a.update(input_0_0=a["expected_0_0"])), MISMATCH),
    "images for outputs": (arrays(lambda a: a.update(expected_0_0=a["input_0_0"])), MISMATCH),
    "a number for outputs": (arrays(put("expected_0_0", value=np.float64(1))), MISMATCH),
    "an output too few": (arrays(lambda a: a.update(expected_0_0=a["expected_0_0"][1:])), MISMATCH),
    "an output is NaN": (arrays(lambda a: a["expected_0_0"].fill(np.nan)), MISMATCH),
    "an earlier version": (earlier_version, "it has schema version 1 (kit.json)"),
}
DOCUMENT: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "older": (put("schema_version", value=1), "bundle.json: it has schema version 1"),
    "newer": (put("schema_version", value=99), "bundle.json: it has schema version 99"),
    "no version": (dropped("schema_version"), "missing required field `schema_version`"),
    **{
        f"no {key}": (dropped(key), f"missing required field `{key}`")
        for key in ("files", "profile", "options", "graph", "golden")
    },
    "files is a list": (put("files", value=[]), "Expected `object`, got `array` - at `$.files`"),
    "no checksums": (put("files", ONNX, value={"bytes": 1}), "`sha256` - at `$.files[...]`"),
    "an engine elsewhere": (put("name", value="../evil"), "name: '../evil' is not a plain file name"),
    "an engine at a path": (put("name", value="/etc/evil"), "name: '/etc/evil' is not a plain file name"),
    "an engine without a name": (put("name", value=""), "name: '' is not a plain file name"),
    "a path upwards": (outside("../evil"), "'../evil' is not the name of an ONNX file"),
    "an absolute path": (outside("/etc/passwd"), "'/etc/passwd' is not the name of an ONNX file"),
    "a path of Windows": (outside("C:evil"), "'C:evil' is not the name of an ONNX file"),
    "the README for a graph": (put("graph", "path", value="README.md"), "'README.md' is not the name"),
    "another graph": (put("graph", "path", value="other.onnx"), "files: expected"),
    "a file too many": (put("files", "../evil", value={"bytes": 1, "sha256": ""}), "files: expected"),
    "weights in another folder": (put("graph", "weight_files", value=["/etc/passwd"]), "no files outside it"),
    "a timing cache": (put("options", "timing_cache", value="/etc/passwd"), "no files outside it"),
    "another precision": (put("precision", value="fp3"), "at `$.precision`"),
    "sizes that shrink": (put("profile", "input", "min", value=[9, 3, 32, 32]), "min <= opt <= max"),
    "sizes of zero": (put("profile", "input", "min", value=[0, 3, 32, 32]), "min <= opt <= max"),
    "sizes of another rank": (put("profile", "input", "max", value=[4, 3, 32]), "min <= opt <= max"),
    "no size": (put("profile", "input", "opt", value=[]), "min <= opt <= max"),
    "sizes of words": (put("profile", "input", "opt", value=["a", 3, 32, 32]), "at `$.profile[...].opt[0]`"),
    "another input": (put("golden", "inputs", value={"x": "float32"}), "profile: "),
    "workspace of words": (put("options", "workspace_mib", value="much"), "at `$.options.workspace_mib`"),
    "a flag of words": (put("options", "tf32", value="yes"), "at `$.options.tf32`"),
    "a limit of zero": (put("golden", "limits", "output", "noise", "baseline", value=0), "at `$.golden.limits[...]"),
    "a limit of infinity": (put("golden", "limits", "output", "noise", "allowed", value=float("inf")), "malformed"),
    "no limits": (put("golden", "limits", value={}), "at `$.golden.limits`"),
    "no limits of an output": (put("golden", "limits", "output", value={}), "at `$.golden.limits[...]`"),
    "limits of another output": (
        put("golden", "limits", "other", value={"noise": {"baseline": 1, "allowed": 1}}),
        "the array 'expected_0_1' is missing",
    ),
    "an image too many": (put("golden", "groups", 0, "batches", value=[[99]]), MISMATCH),
    "a negative image": (put("golden", "groups", 0, "batches", value=[[-1]]), "at `$.golden.groups[0].batches[0][0]`"),
    "a batch too large": (put("golden", "groups", 0, "batches", value=[[0] * 99]), MISMATCH),
    "an empty batch": (put("golden", "groups", 0, "batches", value=[[]]), "at `$.golden.groups[0].batches[0]`"),
    "no batch": (put("golden", "groups", 0, "batches", value=[]), "at `$.golden.groups[0].batches`"),
    "no group": (put("golden", "groups", value=[]), "at `$.golden.groups`"),
    "another shape": (put("golden", "groups", 0, "shapes", "input", value=[1, 3, 32, 32]), MISMATCH),
    "other kinds": (put("golden", "groups", 0, "kinds", value=["x"] * 7), MISMATCH),
    "an odd block": (put("graph", "blocks", 0, value={}), "at `$.graph.blocks[0]`"),
    "a block without maps": (put("graph", "blocks", 0, "maps", value=[]), "an attention block has gates, maps"),
    "no types": (put("graph", "types", value=7), "at `$.graph.types`"),
}


@pytest.mark.parametrize("form", ["zip", "folder"])
@pytest.mark.parametrize("name", [*CONTENT, *DOCUMENT])
def test_a_damaged_bundle_is_refused_with_words(
    name: str, form: str, extracted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if name in CONTENT:
        change, words = CONTENT[name]
        change(extracted)
    else:
        change_document, words = DOCUMENT[name]
        rewritten(extracted, change_document)
    bundle = extracted if form == "folder" else packed(extracted, tmp_path / "damaged.bundle.zip")
    with pytest.raises(UnreadableBundleError) as caught:
        read_bundle(bundle)
    assert caught.value.exit_code == 3
    assert words in caught.value.message
    assert str(bundle) in caught.value.message
    assert caught.value.hint


def test_the_changes_above_are_what_makes_it_damaged(extracted: Path, tmp_path: Path) -> None:
    rewritten(extracted, lambda _: None)
    assert read_bundle(extracted).manifest.architecture == "sm87"
    assert read_bundle(packed(extracted, tmp_path / "whole.bundle.zip")).manifest.architecture == "sm87"


def test_a_link_in_a_folder_is_no_file_of_the_bundle(extracted: Path, tmp_path: Path) -> None:
    shutil.move(extracted / ONNX, tmp_path / "elsewhere.onnx")
    (extracted / ONNX).symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(UnreadableBundleError, match="is missing"):
        read_bundle(extracted)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"not a zip at all" * 99, "is not a zip file"),
        (b"PK\x03\x04" + b"\0" * 99, "is not a zip file"),
        (None, "can't be read: No such file"),
    ],
)
def test_what_is_no_zip_is_refused_by_the_command(
    content: bytes | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "x.bundle.zip"
    if content is not None:
        bundle.write_bytes(content)
    assert run(["validate", str(bundle), "x.engine", "--quiet"]) == 3
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999])
def test_a_truncated_zip_is_refused(share: float, cbam: Any, tmp_path: Path) -> None:
    content = cbam.bundle.read_bytes()
    bundle = tmp_path / "x.bundle.zip"
    bundle.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UnreadableBundleError):
        read_bundle(bundle)


def test_a_bit_anywhere_in_the_zip_never_gives_another_bundle(cbam: Any, tmp_path: Path) -> None:
    content, whole = cbam.bundle.read_bytes(), read_bundle(cbam.bundle)
    draw = np.random.default_rng(0)
    tail = len(content) - 400  # the directory of the zip, where every byte means something
    places = [*draw.integers(0, len(content), 60), *draw.integers(tail, len(content), 60)]
    bundle = tmp_path / "x.bundle.zip"
    refused = 0
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1 << int(draw.integers(8))
        bundle.write_bytes(changed)
        try:
            read = read_bundle(bundle)
        except UnreadableBundleError:
            refused += 1
        else:  # a date, an attribute, a local header that nobody reads
            assert read.manifest == whole.manifest
    assert refused > len(places) / 2


# What a bundle never holds.


def odd(extracted: Path, path: Path, name: str, content: bytes = b"", **attributes: Any) -> Path:
    """A zip with one more file."""
    packed(extracted, path)
    entry = zipfile.ZipInfo("placeholder")
    entry.filename = name
    for key, value in attributes.items():
        setattr(entry, key, value)
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr(entry, content)
    return path


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/b", "..", "a\\b", "C:evil", "folder/", "new\nline"])
def test_names_that_lead_outside_are_refused(name: str, extracted: Path, tmp_path: Path) -> None:
    bundle = odd(extracted, tmp_path / "x.bundle.zip", name)
    with pytest.raises(UnreadableBundleError, match="is not a plain file name"):
        read_bundle(bundle)
    assert not (tmp_path.parent / "evil").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(kind: int, extracted: Path, tmp_path: Path) -> None:
    bundle = odd(extracted, tmp_path / "x.bundle.zip", "link", b"/etc/passwd", external_attr=(kind | 0o777) << 16)
    with pytest.raises(UnreadableBundleError, match="is not a regular file"):
        read_bundle(bundle)


def test_files_that_are_not_listed_and_names_that_stand_twice_are_refused(extracted: Path, tmp_path: Path) -> None:
    with pytest.raises(UnreadableBundleError, match=r"bundle\.json doesn't list more\.txt"):
        read_bundle(odd(extracted, tmp_path / "more.bundle.zip", "more.txt", b"more"))
    with pytest.raises(UnreadableBundleError, match="two files of the same name"):
        read_bundle(odd(extracted, tmp_path / "twice.bundle.zip", ONNX, b"other"))


def test_a_bomb_is_refused_before_it_is_unpacked(extracted: Path, tmp_path: Path) -> None:
    (extracted / "README.md").write_bytes(b"\0" * 2**22)
    rewritten(extracted, lambda _: None)
    with pytest.raises(UnreadableBundleError, match="too large"):
        read_bundle(packed(extracted, tmp_path / "x.bundle.zip"))


def test_a_size_that_is_a_lie_is_found_out(extracted: Path, tmp_path: Path) -> None:
    rewritten(extracted, put("files", "README.md", "bytes", value=10))
    with pytest.raises(UnreadableBundleError, match=r"bundle\.json lists 10"):
        read_bundle(packed(extracted, tmp_path / "x.bundle.zip"))


def test_a_password_is_asked_of_nobody(extracted: Path, tmp_path: Path) -> None:
    bundle = packed(extracted, tmp_path / "x.bundle.zip")
    content = bytearray(bundle.read_bytes())
    for start in range(len(content)):  # the flag "encrypted" of every entry, in both of its places
        if content[start : start + 4] == b"PK\x01\x02":
            content[start + 8] |= 1
        elif content[start : start + 4] == b"PK\x03\x04":
            content[start + 6] |= 1
    bundle.write_bytes(content)
    with pytest.raises(UnreadableBundleError, match="can't be read"):
        read_bundle(bundle)


def test_arrays_that_would_fill_the_memory_are_refused(extracted: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**40,)})
    with zipfile.ZipFile(extracted / "golden.npz", "w") as archive:
        archive.writestr("input_0_0.npy", header.getvalue())
    rewritten(extracted, lambda _: None)
    with pytest.raises(UnreadableBundleError):
        read_bundle(extracted)


def test_a_file_that_may_not_be_read_is_refused(cbam: Any, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    bundle = tmp_path / "x.bundle.zip"
    shutil.copy(cbam.bundle, bundle)
    bundle.chmod(0)
    with pytest.raises(UnreadableBundleError, match="Permission"):
        read_bundle(bundle)
