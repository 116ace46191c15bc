"""Weights in a TorchScript archive; PyTorch's exporter can't capture the program itself."""

from pathlib import Path
from typing import Any


def run_torchscript(path: Path) -> Any:
    """The weights, read by PyTorch, which compiles the program.

    Raises:
        Exception: of many types, the file is damaged.
    """
    import torch

    script = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    return {name: tensor.detach() for name, tensor in script.state_dict().items()}
