"""PyTorch as it runs in a notebook."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch.utils import _pytree as pytree

from attn_export.exporter.artifacts import LoadedModel, Signature
from attn_export.exporter.runtimes.base import Array, Arrays, Runtime, Settings


class Eager(Runtime):
    """The module, called. Its threads are torch's own, which are set back when it is closed."""

    name: ClassVar[str] = "eager"

    def __init__(self, model: LoadedModel, signature: Signature, settings: Settings) -> None:
        super().__init__(signature, settings)
        self.module = model.module
        self._threads_before = torch.get_num_threads()
        self._modes = {submodule: submodule.training for submodule in self.module.modules()}

    @property
    def provenance(self) -> str:
        """The version of torch."""
        return f"torch {torch.__version__}"

    def _open(self) -> None:
        torch.set_num_threads(self.settings.threads)
        self.module.eval()

    def _close(self) -> None:
        torch.set_num_threads(self._threads_before)
        for submodule, training in self._modes.items():
            submodule.training = training

    def upload(self, arrays: Arrays) -> Mapping[str, torch.Tensor]:
        """To torch tensors that share the arrays' memory."""
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def infer(self, inputs: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Call the module; the results are finished when it returns."""
        with torch.inference_mode():
            results = self.call(inputs[self.signature.input_name])
        return dict(zip(self.signature.output_names, pytree.tree_leaves(results), strict=True))

    def call(self, x: torch.Tensor) -> Any:
        """What is run."""
        return self.module(x)

    def download(self, outputs: Mapping[str, torch.Tensor]) -> dict[str, Array]:
        """To arrays that share the tensors' memory."""
        return {name: tensor.numpy() for name, tensor in outputs.items()}
