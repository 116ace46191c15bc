"""PyTorch through ``torch.compile``."""

from typing import Any

import torch

from attn_export.exporter.runtimes.eager import Eager
from attn_export.exporter.runtimes.torch_cuda import device_words


class Compiled(Eager):
    """The module compiled by torch's default backend for the shape it is run with; compiling happens in `open`."""

    name = "compile"

    def _open(self) -> None:
        super()._open()
        self._compiled = torch.compile(self.module, dynamic=False)

    @property
    def provenance(self) -> str:
        """The version of torch, the compiler, and the GPU."""
        return f"torch {torch.__version__}, inductor{device_words(self.device)}"

    def call(self, x: torch.Tensor) -> Any:
        """What is run."""
        return self._compiled(x)
