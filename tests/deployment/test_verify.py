"""Signatures and digests of packages, and bills of materials."""

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from attn_export.cli import run
from attn_export.exporter.deployment.bom import BOM
from attn_export.exporter.deployment.manifest import MANIFEST
from attn_export.exporter.deployment.signature import SIGNATURE
from attn_export.exporter.errors import ChangedPackageError, UnreadablePackageError
from attn_export.exporter.workflows.package_device import write_device_folder
from attn_export.exporter.workflows.package_triton import TritonSettings, write_repository
from attn_export.exporter.workflows.verify import sign_folder, verify_folder
from tests.deployment.files import classifier, measured, write_keys

CURVES: dict[str, Callable[[], Any]] = {
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return write_keys(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An unsigned device folder with a bill of materials."""
    source = classifier(tmp_path / "a.onnx")
    report = measured(source, {1: 1.0, 4: 2.0})
    return write_device_folder([source], tmp_path / "device", licenses=("MIT",), report=report, bom=True)


@pytest.mark.parametrize("target", ["nowhere", "/dev/zero"])
def test_a_link_that_is_no_file_is_a_change(target: str, folder: Path) -> None:
    (folder / "a.onnx").unlink()
    (folder / "a.onnx").symlink_to(target)
    with pytest.raises(ChangedPackageError, match=r"a.onnx can't be read"):
        verify_folder(folder)


@pytest.mark.parametrize("kind", CURVES)
def test_what_was_signed_is_verified(kind: str, folder: Path, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path, key=CURVES[kind]())
    sign_folder(folder, private)
    found = verify_folder(folder, public)
    assert (found.files, found.signed, found.verified) == (3, True, True)
    assert verify_folder(folder).verified is False
    _, other = write_keys(tmp_path, "other.pem", key=CURVES[kind]())
    with pytest.raises(ChangedPackageError, match="isn't signed with the key"):
        verify_folder(folder, other)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("name", ["a.onnx", BOM])
def test_a_changed_byte_is_named(name: str, signed: bool, folder: Path, keys: tuple[Path, Path]) -> None:
    if signed:
        sign_folder(folder, keys[0])
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ChangedPackageError, match=f"{name} was changed$"):
        verify_folder(folder, keys[1] if signed else None)


@pytest.mark.parametrize("name", ["a.onnx", "added"])
def test_a_file_of_another_size_is_not_read(name: str, folder: Path) -> None:
    """It may be sparse, and of terabytes."""
    with (folder / name).open("ab") as stream:
        stream.truncate(2**43)
    with pytest.raises(ChangedPackageError, match=f"{name} (was changed|isn't part of it)$"):
        verify_folder(folder)


def test_missing_and_added_files_are_named(folder: Path, keys: tuple[Path, Path]) -> None:
    sign_folder(folder, keys[0])
    (folder / "a.onnx").rename(folder / "b.onnx")
    (folder / "deep").mkdir()
    (folder / "deep" / "x").touch()
    with pytest.raises(ChangedPackageError, match=r"a.onnx is missing, b.onnx isn't part of it, deep/x isn't part"):
        verify_folder(folder, keys[1])


def test_a_manifest_that_was_changed_with_its_file_is_found_by_the_signature(
    folder: Path, keys: tuple[Path, Path]
) -> None:
    """Who can change a file can change its digest: only the signature tells."""
    sign_folder(folder, keys[0])
    document = json.loads((folder / MANIFEST).read_text())
    document["class_names"] = ["dog", "cat", "cow"]
    (folder / MANIFEST).write_text(json.dumps(document))
    with pytest.raises(ChangedPackageError, match=f"{MANIFEST} was changed"):
        verify_folder(folder, keys[1])
    envelope = json.loads((folder / SIGNATURE).read_text())
    statement = json.loads(b64decode(envelope["payload"]))
    statement["subject"] = [entry for entry in statement["subject"] if entry["name"] != MANIFEST]
    envelope["payload"] = b64encode(json.dumps(statement).encode()).decode()
    (folder / SIGNATURE).write_text(json.dumps(envelope))
    with pytest.raises(ChangedPackageError, match="isn't signed with the key"):
        verify_folder(folder, keys[1])


def test_a_model_of_a_repository_is_signed_too(keys: tuple[Path, Path], tmp_path: Path) -> None:
    (model,) = write_repository([classifier(tmp_path / "a.onnx")], tmp_path / "models", TritonSettings())
    sign_folder(model, keys[0])
    assert verify_folder(model, keys[1]).files == 3
    (model / "labels.txt").write_text("dog\ncat\ncow\n")
    with pytest.raises(ChangedPackageError, match=r"labels.txt was changed$"):
        verify_folder(model, keys[1])


def test_keys_of_the_wrong_kind_are_refused(folder: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = keys
    of_rsa, _ = write_keys(tmp_path / "rsa", key=rsa.generate_private_key(65537, 2048))
    secret = tmp_path / "secret.pem"
    protected = BestAvailableEncryption(b"word")
    secret.write_bytes(CURVES["p256"]().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protected))
    (tmp_path / "text.pem").write_text("not a key")
    refused = {
        public: "is a public key, and expected is a private one",
        of_rsa: "is a key of RSA, and expected is an elliptic curve or Ed25519",
        secret: "is encrypted",
        tmp_path / "text.pem": "is no key in PEM",
        tmp_path / "none.pem": "can't be read",
    }
    for key, says in refused.items():
        with pytest.raises(UnreadablePackageError, match=says):
            sign_folder(folder, key)
    assert not (folder / SIGNATURE).exists()
    sign_folder(folder, private)
    with pytest.raises(UnreadablePackageError, match="is a private key, and expected is a public one"):
        verify_folder(folder, private)


@pytest.mark.parametrize(
    "content", ["", "{}", '{"payload": "?", "signatures": []}', '{"payload": "e30=", "signatures": []}']
)
def test_a_damaged_signature_is_refused(content: str, folder: Path, keys: tuple[Path, Path]) -> None:
    (folder / SIGNATURE).write_text(content)
    with pytest.raises(UnreadablePackageError, match="is no signature of a package"):
        verify_folder(folder, keys[1])


def test_what_is_no_package_or_not_signed_is_refused(folder: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UnreadablePackageError, match="isn't signed"):
        verify_folder(folder, keys[1])
    with pytest.raises(UnreadablePackageError, match=f"neither {SIGNATURE} nor {MANIFEST}"):
        verify_folder(tmp_path / "nothing")


def test_the_commands_sign_and_verify(
    keys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, device = str(classifier(tmp_path / "a.onnx")), str(tmp_path / "my device")
    assert run(("package", source, "--device", device, "--sign", str(keys[0]), "--bom", "--quiet")) == 0
    assert run(("verify", device, "--key", str(keys[1]), "--quiet")) == 0
    assert "3 files as they were packaged; the signature is the key's" in " ".join(capsys.readouterr().out.split())
    (tmp_path / "my device" / "a.onnx").write_bytes(b"other")
    assert run(("verify", device, "--quiet")) == 1
    assert "a.onnx was changed" in capsys.readouterr().err
    assert run(("package", source, "--device", f"{device} 2", "--sign", str(keys[1]), "--quiet")) == 3
    assert not (tmp_path / "my device 2").exists(), "the key is looked at first"


def test_the_bill_of_materials_is_strictly_cyclonedx(folder: Path) -> None:
    text = (folder / BOM).read_text()
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"modelCard"', '"modelCart"')) is not None
    model = json.loads(text)["metadata"]["component"]
    metrics = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert metrics[0]["value"] == "1.5"
    low, high = (float(metrics[1]["confidenceInterval"][f"{side}Bound"]) for side in ("lower", "upper"))
    assert low <= float(metrics[1]["value"]) <= high
    assert {"name": "attn_export:class_names", "value": '["cat","dog","über \\"cow\\""]'} in model["properties"]
    assert model["licenses"] == [{"expression": "MIT"}]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes with names")
@pytest.mark.parametrize("add", [os.mkfifo, lambda p: p.symlink_to("/dev/zero"), lambda p: p.symlink_to("nowhere")])
def test_what_is_no_file_is_not_waited_for(add: Callable[[Path], object], folder: Path) -> None:
    add(folder / "strange")
    with pytest.raises((ChangedPackageError, UnreadablePackageError), match="strange"):
        verify_folder(folder)
    (folder / "strange").unlink()
    (folder / MANIFEST).unlink()
    add(folder / MANIFEST)
    with pytest.raises(UnreadablePackageError):
        verify_folder(folder)


@pytest.mark.parametrize("content", [b"[" * 100_000, bytes(range(256)), b"[]", b""], ids=lambda c: str(c[:3]))
def test_a_signature_that_is_none_is_refused(content: bytes, folder: Path) -> None:
    (folder / SIGNATURE).write_bytes(content)
    with pytest.raises(UnreadablePackageError, match="is no signature"):
        verify_folder(folder)
