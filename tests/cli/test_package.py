"""The commands `package` and `verify` where something is wrong; tests/deployment has what they write."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Finished
from tests.deployment.files import classifier

Refused = Callable[..., Finished]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("model.pt",), "neither --triton nor --device"),
        (("model.pt", "--triton", "m", "--bom"), "--bom is for device folders"),
        (("model.pt", "--triton", "m", "--device", "d", "--gpu", "sm86"), "which Triton doesn't load"),
        (("a.onnx", "--triton", "m", "--input-image", "uint8"), "--input-image is for a checkpoint"),
        (("a.onnx", "--triton", "m", "--instances", "tpu:1"), "can't be understood"),
        (("a.onnx", "--triton", "m", "--precision", "fp16"), "--precision is for a checkpoint"),
        (("model.pt", "--triton", "m", "--precision", "int8"), "package takes none"),
        (("model.pt", "model.pt", "--triton", "m"), "are both checkpoints"),
    ],
)
def test_options_without_sense_are_refused(arguments: tuple[str, ...], says: str, refused: Refused) -> None:
    refused(2, "package", *arguments, says=[says])


def test_a_folder_in_the_way_is_found_before_the_export(refused: Refused, folder: Path) -> None:
    Path("models", "photos").mkdir(parents=True)
    done = refused(3, "package", "model.pt", "--triton", "models", says=["no model repository", "photos"])
    assert "Capturing" not in done.stderr
    refused(6, "package", "model.pt", "--device", "models", says=["isn't empty"])


def test_labels_and_latencies_have_to_be_of_the_file(refused: Refused, folder: Path) -> None:
    classifier(Path("a.onnx"))
    Path("two.txt").write_text("cat\ndog\n")
    for place in ("--triton", "--device"):
        refused(3, "package", "a.onnx", place, "new", "--labels", "two.txt", says=["2 classes are named", "knows 3"])
    refused(3, "package", "a.onnx", "--triton", "new", "--latencies", "none.json", says=["none.json does not exist"])
    refused(3, "package", "none.onnx", "--triton", "new", says=["none.onnx"])


def test_a_key_of_the_wrong_kind_is_found_before_the_export(refused: Refused, folder: Path) -> None:
    Path("key.pem").write_text("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n")
    done = refused(3, "package", "model.pt", "--device", "d", "--sign", "key.pem", says=["is a public key"])
    assert "Capturing" not in done.stderr
    refused(3, "verify", "nothing", says=["nothing holds neither"])
