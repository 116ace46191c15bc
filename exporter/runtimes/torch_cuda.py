"""Runs a PyTorch module on CUDA and restores everything afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from attn_export.exporter.artifacts import CPU
from attn_export.exporter.errors import RuntimeUnavailableError, first_line
from attn_export.exporter.system import install

EXACT = "ieee"


def require_cuda(runtime: str) -> None:
    """Check that torch can use a GPU; ``runtime`` is for the message.

    Raises:
        RuntimeUnavailableError: with the reason.
    """
    if torch.cuda.is_available():
        return
    if not torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        raise RuntimeUnavailableError(
            f"{runtime} can't run on cuda: torch {torch.__version__} was built without CUDA",
            hint=f"{install.CUDA_TORCH} (without constraints.txt, whose torch is a CPU build), or --device cpu.",
        )
    raise RuntimeUnavailableError(
        f"{runtime} can't run on cuda: {_why_unusable()}",
        hint="nvidia-smi must list a GPU, with a driver recent enough for this torch (see attn-export doctor); "
        "or use --device cpu.",
    )


def _why_unusable() -> str:
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return first_line(error)
    return "torch finds no GPU"


def device_words(device: str) -> str:
    """The device part of a runtime's provenance, empty for the CPU."""
    if device == CPU:
        return ""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f", CUDA {torch.version.cuda} on {name}, TF32 off, no CUDA graph"


class CudaEvents:
    """A stopwatch of two CUDA events on ``stream``, None for torch's current one."""

    def __init__(self, stream: "torch.cuda.Stream | None" = None) -> None:
        self._stream = stream
        events: Any = torch.cuda.Event
        self._before, self._after = events(enable_timing=True), events(enable_timing=True)

    def start(self) -> None:
        """Record the first event."""
        self._before.record(self._stream)

    def stop(self) -> None:
        """Record the second event."""
        self._after.record(self._stream)

    def seconds(self) -> float:
        """The time between the two; waits for the second."""
        self._after.synchronize()
        return float(self._before.elapsed_time(self._after)) / 1e3


@contextmanager
def exact_float32() -> Iterator[None]:
    """Disable TF32 in matrix products and convolutions.

    Torch has two interfaces for this and refuses to compute if they conflict, so both are set. The older one can't be
    read while the user's settings conflict.
    """
    backends: Any = torch.backends
    knobs = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.matmul)
    before = [knob.fp32_precision for knob in knobs]
    try:
        older: tuple[str, bool] | None = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    except RuntimeError:
        older = None
    try:
        _set_older("highest", False)
        for knob in knobs[:3]:  # the last one is the CPU's
            knob.fp32_precision = EXACT
        yield
    finally:
        if older is not None:
            _set_older(*older)
        for knob, precision in zip(knobs, before, strict=True):
            knob.fp32_precision = precision


def _set_older(precision: str, tf32: bool) -> None:
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = tf32


@contextmanager
def moved(module: nn.Module, device: str) -> Iterator[None]:
    """The module on another device; its original tensors, which stay in memory meanwhile, come back afterwards."""
    parts = [store for submodule in module.modules() for store in (submodule._parameters, submodule._buffers)]  # noqa: SLF001
    stores: list[tuple[dict[str, Any], dict[str, Any]]] = [(store, dict(store)) for store in parts]
    tensors = [t for _, entries in stores for t in entries.values() if t is not None]
    tensors += [t.grad for t in tensors if t.is_leaf and t.grad is not None]
    data = [(tensor, tensor.data) for tensor in tensors]
    try:
        module.to(device)
        yield
    finally:
        for tensor, before in data:
            tensor.data = before
        for store, entries in stores:
            store.update(entries)
