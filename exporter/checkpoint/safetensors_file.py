"""Weights in a safetensors file (https://github.com/huggingface/safetensors#format)."""

from pathlib import Path
from typing import Any

from attn_export.exporter.errors import UnreadableCheckpointError

LONGEST_HEADER = 2**24  # bytes; the library takes a hundred million, at which it needs half a minute and 1.6 GiB


def read_safetensors(path: Path) -> Any:
    """The tensors by their names. The library checks sizes and offsets against the file.

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
