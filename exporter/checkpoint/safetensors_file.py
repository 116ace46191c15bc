"""Weights in a safetensors file (https://github.com/huggingface/safetensors#format)."""

from pathlib import Path
from typing import Any


def read_safetensors(path: Path) -> Any:
    """The tensors by their names. The library checks sizes and offsets against the file.

    Raises:
        Exception: of several types, the file is damaged.
    """
    from safetensors.torch import load_file

    return load_file(path)
