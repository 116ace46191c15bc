"""Whatever is wrong with a bundle: exit code 3, and words."""

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


def no_arrays(bundle: Path) -> None:
    (bundle / "sample.npz").write_bytes(b"PK")
    rewritten(bundle, lambda _: None)


def pickled(bundle: Path) -> None:
    np.savez(bundle / "sample.npz", images_0=np.array([{}], object))
    rewritten(bundle, lambda _: None)


CONTENT: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit of the graph": (lambda bundle: flipped(bundle / ONNX), f"the checksum of {ONNX} isn't"),
    "a bit of the images": (lambda bundle: flipped(bundle / "sample.npz"), "the checksum of sample.npz isn't"),
    "a bit of the page": (lambda bundle: flipped(bundle / "README.md", 40), "the checksum of README.md isn't"),
    "a shorter graph": (lambda bundle: (bundle / ONNX).write_bytes(b"short"), f"{ONNX} has 5 bytes"),
    "a longer graph": (lambda bundle: (bundle / ONNX).open("ab").write(b"more"), f"{ONNX} has"),
    "no graph": (lambda bundle: (bundle / ONNX).unlink(), f"{ONNX} is missing"),
    "no images": (lambda bundle: (bundle / "sample.npz").unlink(), "sample.npz is missing"),
    "no bundle.json": (lambda bundle: (bundle / "bundle.json").unlink(), "holds no bundle.json"),
    "bundle.json cut": (
        lambda bundle: (bundle / "bundle.json").write_bytes((bundle / "bundle.json").read_bytes()[:-9]),
        "is damaged",
    ),
    "bundle.json is a list": (lambda bundle: (bundle / "bundle.json").write_text("[]"), "is damaged"),
    "bundle.json is deep": (lambda bundle: (bundle / "bundle.json").write_text("[" * 10**5), "is damaged"),
    "bundle.json is binary": (lambda bundle: (bundle / "bundle.json").write_bytes(b"\xff\xfe\x00"), "is damaged"),
    "images of another kind": (
        no_arrays,
        "its arrays can't be read",
    ),
    "a pickle for images": (
        pickled,
        "is damaged",
    ),
}
DOCUMENT: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "newer": (put("schema_version", value=99), "written by a newer attn-export"),
    "no version": (dropped("schema_version"), "doesn't say which version"),
    **{f"no {key}": (dropped(key), "is damaged") for key in ("files", "onnx", "profile", "options", "graph", "sample")},
    "files is a list": (put("files", value=[]), "is damaged"),
    "a path upwards": (put("files", "../evil", value={"bytes": 1, "sha256": ""}), "is damaged"),
    "an absolute path": (put("files", "/etc/passwd", value={"bytes": 1, "sha256": ""}), "is damaged"),
    "another graph": (put("onnx", value="other.onnx"), "is damaged"),
    "another precision": (put("precision", value="fp3"), "is damaged"),
    "sizes that shrink": (put("profile", "input", "min", value=[9, 3, 32, 32]), "is damaged"),
    "sizes of zero": (put("profile", "input", "min", value=[0, 3, 32, 32]), "is damaged"),
    "no size": (put("profile", "input", "opt", value=[]), "is damaged"),
    "sizes of words": (put("profile", "input", "opt", value=["a", 3, 32, 32]), "is damaged"),
    "workspace of words": (put("options", "workspace_mib", value="much"), "is damaged"),
    "a flag of words": (put("options", "tf32", value="yes"), "is damaged"),
    "a limit of zero": (put("sample", "limits", "output", "noise", "baseline", value=0), "is damaged"),
    "a limit of infinity": (put("sample", "limits", "output", "noise", "allowed", value=float("inf")), "is damaged"),
    "no limits": (put("sample", "limits", value={}), "is damaged"),
    "limits of another output": (put("sample", "limits", "other", value={}), "is damaged"),
    "an image too many": (put("sample", "groups", 0, "batches", value=[[99]]), "is damaged"),
    "a batch too large": (put("sample", "groups", 0, "batches", value=[[0] * 99]), "is damaged"),
    "an empty batch": (put("sample", "groups", 0, "batches", value=[[]]), "is damaged"),
    "no batch": (put("sample", "groups", 0, "batches", value=[]), "is damaged"),
    "no group": (put("sample", "groups", value=[]), "is damaged"),
    "other images": (put("sample", "groups", 0, "images", value="images_7"), "is damaged"),
    "results for images": (put("sample", "groups", 0, "images", value="expected_0_0"), "is damaged"),
    "other kinds": (put("sample", "groups", 0, "kinds", value=["x"] * 7), "is damaged"),
    "an odd block": (put("graph", "blocks", 0, value={}), "is damaged"),
    "no types": (put("graph", "types", value=7), "is damaged"),
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
    assert caught.value.hint or "is damaged" in words


def test_the_changes_above_are_what_makes_it_damaged(extracted: Path, tmp_path: Path) -> None:
    rewritten(extracted, lambda _: None)
    assert read_bundle(extracted).architecture == "sm87"
    assert read_bundle(packed(extracted, tmp_path / "whole.bundle.zip")).architecture == "sm87"


def test_a_link_in_a_folder_is_no_file_of_the_bundle(extracted: Path, tmp_path: Path) -> None:
    shutil.move(extracted / ONNX, tmp_path / "elsewhere.onnx")
    (extracted / ONNX).symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(UnreadableBundleError, match="is missing"):
        read_bundle(extracted)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"not a zip at all" * 99, "is no zip file"),
        (b"PK\x03\x04" + b"\0" * 99, "is no zip file"),
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
            assert read.listed == whole.listed
            assert read.document == whole.document
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
def test_names_that_lead_elsewhere_are_refused(name: str, extracted: Path, tmp_path: Path) -> None:
    bundle = odd(extracted, tmp_path / "x.bundle.zip", name)
    with pytest.raises(UnreadableBundleError, match="leads elsewhere"):
        read_bundle(bundle)
    assert not (tmp_path.parent / "evil").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(kind: int, extracted: Path, tmp_path: Path) -> None:
    bundle = odd(extracted, tmp_path / "x.bundle.zip", "link", b"/etc/passwd", external_attr=(kind | 0o777) << 16)
    with pytest.raises(UnreadableBundleError, match="isn't a file"):
        read_bundle(bundle)


def test_files_that_are_not_listed_and_names_that_stand_twice_are_refused(extracted: Path, tmp_path: Path) -> None:
    with pytest.raises(UnreadableBundleError, match=r"which bundle\.json doesn't list"):
        read_bundle(odd(extracted, tmp_path / "more.bundle.zip", "more.txt", b"more"))
    with pytest.raises(UnreadableBundleError, match="two files of one name"):
        read_bundle(odd(extracted, tmp_path / "twice.bundle.zip", ONNX, b"other"))


def test_a_bomb_is_refused_before_it_is_unpacked(extracted: Path, tmp_path: Path) -> None:
    (extracted / "README.md").write_bytes(b"\0" * 2**22)
    with pytest.raises(UnreadableBundleError, match="absurd"):
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
    with zipfile.ZipFile(extracted / "sample.npz", "w") as archive:
        archive.writestr("images_0.npy", header.getvalue())
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
