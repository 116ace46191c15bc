"""Networks in files that torch.save didn't write."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from attn_export.exporter.checkpoint.program import read_program
from attn_export.exporter.checkpoint.torchscript import read_script
from attn_export.exporter.errors import AttnExportError, UnreadableCheckpointError, first_line
from attn_export.exporter.system.file_kinds import EXPORTED, SAFETENSORS, TORCHSCRIPT, FileKind, kind_of

COPY_AGAIN = "Copy it again, and compare the sizes of the two files."
# Bytes; the library takes a hundred million, at which it needs half a minute and 1.6 GiB.
LONGEST_HEADER = 2**24


def read_other_format(path: Path, *, trust: bool) -> tuple[Any, bool] | None:
    """The state dict or `program.Program` in such a file, and whether it is TorchScript; None for other files.

    ``trust`` lets PyTorch load a program that isn't data alone, which runs parts of it.

    Raises:
        UnreadableCheckpointError: the file is damaged.
        UntrustedCheckpointError: it isn't data alone.
    """
    kind = kind_of(path)
    if kind is SAFETENSORS or (path.suffix == ".safetensors" and path.is_file()):
        return _loaded(path, SAFETENSORS, read_safetensors), False
    if kind is EXPORTED:
        return _loaded(path, kind, lambda path: read_program(path, trust=trust)), False
    return (_loaded(path, kind, read_script), True) if kind is TORCHSCRIPT else None


def read_safetensors(path: Path) -> Any:
    """The tensors in a safetensors file by their names. The library checks sizes and offsets against the file.

    https://github.com/huggingface/safetensors#format

    Raises:
        UnreadableCheckpointError: it lists more tensors than any network has.
        Exception: of several types, the file is damaged.
    """
    with path.open("rb") as stream:
        header = int.from_bytes(stream.read(8), "little")
    if LONGEST_HEADER < header < path.stat().st_size:
        raise UnreadableCheckpointError(
            f"{path} lists its tensors in {header:,} bytes, and {LONGEST_HEADER:,} are the limit",
            hint="Where does this file come from? A list of 50,000 tensors is shorter.",
        )
    from safetensors.torch import load_file

    return load_file(path)


def _loaded(path: Path, kind: FileKind, load: Callable[[Path], Any]) -> Any:
    try:
        return load(path)
    except (AttnExportError, MemoryError):
        raise
    except Exception as error:  # of a damaged file the libraries raise a dozen types
        raise UnreadableCheckpointError(
            f"{path} is {kind.name}, truncated or damaged: {first_line(error)}", hint=COPY_AGAIN
        ) from error
