"""A hash of what a network computes: its weights, its images, and every operator that it runs.

Weights alone don't identify a network: an edit of ``forward`` connects them otherwise. So one image of each size runs
through it, and a tape records the name, the numbers and the source of each tensor of every operator.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from attn_export.exporter.artifacts import Precision
from attn_export.exporter.network import arithmetic, gates, observation, run
from attn_export.exporter.network.batches import Batch, rows_of
from attn_export.exporter.network.call import arguments
from attn_export.exporter.network.observation import evaluating
from attn_export.exporter.records.arrays import Arrays

# Tensors that are neither weights nor computed by an operator, such as numpy's, are identified by their content; of a
# larger one the origin is unknown.
MAX_CONSTANT = 64
# The modules that compute a reference: a change in them changes the results.
SOURCES = (
    *(Path(str(module.__file__)) for module in (arithmetic, gates, observation, run)),
    *(Path(__file__).with_name(f"{name}.py") for name in ("compute_reference", "reference", "baseline")),
)


class NotRepeatable(Exception):  # noqa: N818 - no error: the results just aren't stored
    """The network's results depend on more than its weights and operators; the message says on what."""


def fingerprint(module: nn.Module, batches: Sequence[Batch], precisions: Sequence[Precision], least: int = 1) -> str:
    """A hash that is the same only where the reference is.

    Raises:
        NotRepeatable: the network draws random numbers, or its operators depend on values.
    """
    digest = hashlib.sha256()
    digest.update(
        f"{torch.__version__} {torch.backends.cpu.get_cpu_capability()} {sorted(precisions)} {least}".encode()
    )
    for source in SOURCES:
        digest.update(source.read_bytes())
    for name, tensor in _tensors(module).items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(_bytes(tensor))
    for batch in batches:
        digest.update(f"{batch.shapes} {batch.kinds} {batch.names}".encode())
        for name, array in batch.arrays.items():
            digest.update(f"{name} {array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).data)
    for image in {batch.sizes: rows_of(batch.arrays, range(min(least, len(batch)))) for batch in batches}.values():
        digest.update("\n".join(tape(module, image)).encode())
    return digest.hexdigest()


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _bytes(tensor: torch.Tensor) -> Any:
    array = tensor.detach().cpu().contiguous().reshape(-1)
    return array.view(torch.uint8).numpy().data if array.numel() else b""


def tape(module: nn.Module, arrays: Arrays) -> list[str]:
    """Every operator that the network runs on its inputs, (N, ...) each, in order, as text.

    Raises:
        NotRepeatable: see `fingerprint`.
    """
    lines: list[str] = []
    known = WeakTensorKeyDictionary()
    for name, tensor in _tensors(module).items():
        known[tensor] = name

    def source_of(tensor: torch.Tensor) -> str:
        if tensor in known:
            return str(known[tensor])
        if tensor.numel() > MAX_CONSTANT:
            raise NotRepeatable(f"a tensor of {tuple(tensor.shape)} comes from outside of PyTorch")
        return f"constant {tensor.dtype} {tuple(tensor.shape)} {bytes(_bytes(tensor)).hex()}"

    class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if torch.Tag.nondeterministic_seeded in operator.tags:
                raise NotRepeatable(f"{operator} draws random numbers")
            if operator is torch.ops.aten._local_scalar_dense.default:  # noqa: SLF001 - the operator's name
                raise NotRepeatable("a value decides what is computed")
            lines.append(f"{operator} {pytree.tree_map_only(torch.Tensor, source_of, (args, kwargs or {}))}")
            results = operator(*args, **(kwargs or {}))
            for i, tensor in enumerate(pytree.tree_leaves(results)):
                if isinstance(tensor, torch.Tensor) and tensor not in known:
                    known[tensor] = f"%{len(lines)}.{i}"
            return results

    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    for name, tensor in tensors.items():
        known[tensor] = f"input {name}"
    args, kwargs = arguments(module, tensors)
    with evaluating(module), Tape():  # type: ignore[no-untyped-call]
        results = module(*args, **kwargs)
    lines += [f"returned {source_of(t)}" for t in pytree.tree_leaves(results) if isinstance(t, torch.Tensor)]
    return lines
