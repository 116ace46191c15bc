"""The kind of a file by its content, for errors that say what it is and which command takes it."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Endings of checkpoints that somebody zipped.
CHECKPOINTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".tar", ".pkl")
HEAD_BYTES = 512
# Tags of the fields of an ONNX ModelProto that may follow its first one, ir_version.
ONNX_TAGS = frozenset(b"\x12\x1a\x22\x28\x32\x3a\x42\x72\xa2")
ONNX_VERSIONS = range(1, 32)


@dataclass(frozen=True)
class FileKind:
    """A kind of file.

    Attributes:
        name: with its article.
        hint: which command takes ``{path}``, or how it becomes something that one takes.
    """

    name: str
    hint: str


ONNX = FileKind(
    "an ONNX file",
    "`attn-export clean {path} -o cleaned.onnx` cleans it; inspect, build, validate and bench take it too.",
)
CHECKPOINT = FileKind("a PyTorch checkpoint", "`attn-export {path} --onnx` makes an ONNX file of it.")
TORCHSCRIPT = FileKind("a TorchScript archive", "`attn-export {path} --onnx` makes an ONNX file of its network.")
EXPORTED = FileKind("a program of torch.export", "`attn-export {path} --onnx` makes an ONNX file of it.")
SAFETENSORS = FileKind("a safetensors file", "`attn-export {path} --onnx` makes an ONNX file of it.")
BUNDLE = FileKind("a deployment bundle", "`attn-export build {path}` builds its engine on the device.")
ARRAYS = FileKind(
    "a file of numpy arrays",
    "Images belong behind --images. Weights are read from a dictionary of the arrays: "
    "torch.save(dict(numpy.load('{path}')), 'model.pt').",
)
PACKED = FileKind("a compressed file", "Unpack it: gunzip, bunzip2 or unxz {path}.")
TAR = FileKind("a tar archive", "Unpack it, tar xf {path}, and name the checkpoint in it.")
ZIP = FileKind("a zip archive", "Unpack it, unzip {path}, and name the checkpoint in it.")
REPORT = FileKind("a JSON file", "`attn-export compare` and `attn-export report` take reports.")
KERAS = FileKind("an HDF5 file, as Keras writes them", "tf2onnx makes an ONNX file of it, which clean and build take.")
TFLITE = FileKind("a TensorFlow Lite file", "tf2onnx makes an ONNX file of it, which clean and build take.")
GGUF = FileKind("a GGUF file", "It holds quantized weights of a language model, and no network of attn-export.")
LFS_POINTER = FileKind("a pointer of Git LFS, and not the file itself", "Fetch the file: git lfs pull.")
HTML = FileKind("an HTML page", "The download gave a page instead of the file: log in there, or take the direct link.")

SOURCE = FileKind(
    "Python source", "A checkpoint comes first, its code after: attn-export model.pt --code {path} --onnx"
)

# Each test is given the first bytes.
TESTS: tuple[tuple[FileKind, Callable[[bytes], bool]], ...] = (
    (ONNX, lambda head: head[:1] == b"\x08" and len(head) > 2 and head[1] in ONNX_VERSIONS and head[2] in ONNX_TAGS),
    (SAFETENSORS, lambda head: head[8:10] == b'{"' and head[4:8] == bytes(4)),
    (ARRAYS, lambda head: head.startswith(b"\x93NUMPY")),
    (KERAS, lambda head: head.startswith(b"\x89HDF")),
    (TFLITE, lambda head: head[4:8] == b"TFL3"),
    (GGUF, lambda head: head.startswith(b"GGUF")),
    (LFS_POINTER, lambda head: head.startswith(b"version https://git-lfs")),
    (HTML, lambda head: head.lstrip()[:9].lower() in (b"<!doctype", b"<html>", b"<html lan")),
    (PACKED, lambda head: head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ"))),
    (TAR, lambda head: head[257:262] == b"ustar"),
    (REPORT, lambda head: head.lstrip()[:1] == b"{"),
    (CHECKPOINT, lambda head: head.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"))),
)


def kind_of(path: Path) -> FileKind | None:
    """The kind of a file; None for one that isn't known or can't be read."""
    try:
        if not path.is_file():  # opening a pipe would wait for its writer
            return None
        if path.suffix == ".py":
            return SOURCE
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
        if head.startswith(b"PK"):
            with zipfile.ZipFile(path) as archive:
                return _kind_of_archive([name.partition("/")[2] or name for name in archive.namelist()])
    except Exception:  # noqa: BLE001 (of a damaged archive anything)
        return None
    return next((kind for kind, matches in TESTS if matches(head)), None)


def _kind_of_archive(entries: list[str]) -> FileKind | None:
    if "constants.pkl" in entries or any(entry.startswith("code/") for entry in entries):
        return TORCHSCRIPT
    if {"archive_format", "serialized_exported_program.json"} & set(entries):
        return EXPORTED
    if "data.pkl" in entries:
        return CHECKPOINT
    if "manifest.json" in entries:
        return BUNDLE
    if entries and all(entry.endswith(".npy") for entry in entries):
        return ARRAYS
    return ZIP if any(entry.endswith(CHECKPOINTS) for entry in entries) else None
