"""PyTorch, eager and compiled."""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch.utils import _pytree as pytree

from attn_export.exporter.artifacts import CUDA, LoadedModel, Signature
from attn_export.exporter.network.call import arguments
from attn_export.exporter.records.arrays import Array, Arrays
from attn_export.exporter.runtimes.base import Runtime, Settings, Stopwatch
from attn_export.exporter.runtimes.torch_cuda import CudaEvents, device_words, exact_float32, moved, require_cuda


class Eager(Runtime):
    """The module on the CPU or on CUDA.

    `close` restores torch's threads and TF32 settings, and the module's modes and weights. Close runtimes of one module
    in reverse order, as `with` does.
    """

    name = "eager"

    def __init__(self, model: LoadedModel, signature: Signature, settings: Settings) -> None:
        super().__init__(signature, settings)
        self.module = model.module
        self._names = [taken.name for taken in model.inputs]
        self.device = settings.device
        self._stack = ExitStack()
        self._threads_before = torch.get_num_threads()
        self._modes = {submodule: submodule.training for submodule in self.module.modules()}

    @property
    def provenance(self) -> str:
        """The version of torch, and the GPU."""
        return f"torch {torch.__version__}{device_words(self.device)}"

    def _open(self) -> None:
        torch.set_num_threads(self.settings.threads)
        self.module.eval()
        if self.device == CUDA:
            require_cuda(self.name)
            self._stack.enter_context(exact_float32())
            self._stack.enter_context(moved(self.module, self.device))

    def _close(self) -> None:
        self._stack.close()
        if self.device == CUDA:
            torch.cuda.empty_cache()
        torch.set_num_threads(self._threads_before)
        for submodule, training in self._modes.items():
            submodule.training = training

    def upload(self, arrays: Arrays) -> Mapping[str, torch.Tensor]:
        """Copy to torch tensors; on the CPU they share the arrays' memory."""
        return {name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()}

    def infer(self, inputs: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Call the module; synchronous on the CPU."""
        with torch.inference_mode():
            ordered = (inputs[name] for name in self.signature.input_names)
            args, kwargs = arguments(self.module, dict(zip(self._names, ordered, strict=True)))
            results = self.call(*args, **kwargs)
        return dict(zip(self.signature.output_names, pytree.tree_leaves(results), strict=True))

    def call(self, *args: torch.Tensor, **kwargs: torch.Tensor) -> Any:
        """Run the module."""
        return self.module(*args, **kwargs)

    def download(self, outputs: Mapping[str, torch.Tensor]) -> dict[str, Array]:
        """Copy to arrays; on the CPU they share the tensors' memory."""
        return {name: tensor.cpu().numpy() for name, tensor in outputs.items()}

    def synchronize(self) -> None:
        """Wait for the GPU."""
        if self.device == CUDA:
            torch.cuda.synchronize()

    def device_stopwatch(self) -> Stopwatch | None:
        """CUDA events on torch's current stream."""
        return CudaEvents() if self.device == CUDA else None


class Compiled(Eager):
    """The module compiled by torch's default backend for one shape, in `open`."""

    name = "compile"

    def _open(self) -> None:
        super()._open()
        self._compiled = torch.compile(self.module, dynamic=False)

    @property
    def provenance(self) -> str:
        """The version of torch, the compiler, and the GPU."""
        return f"torch {torch.__version__}, inductor{device_words(self.device)}"

    def call(self, *args: torch.Tensor, **kwargs: torch.Tensor) -> Any:
        """Run the module."""
        return self._compiled(*args, **kwargs)
