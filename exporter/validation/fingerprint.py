"""What a network computes, as a hash: its weights, and every operator that it runs on them.

Weights alone don't say it: the same ones may be wired otherwise after an edit of ``forward``. So one image goes through
the network, and of every operator its name, its numbers and where each of its tensors came from are noted.
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
from attn_export.exporter.network import arithmetic, observation, run
from attn_export.exporter.network.images import Batch
from attn_export.exporter.network.observation import evaluating

# Tensors that are neither weights nor computed by an operator, such as one that numpy gave: small ones are noted by
# their content, and with a larger one it isn't known where it comes from.
LARGEST_CONSTANT = 64
# The files beside this one that say how a reference is computed.
COMPUTING = ("compute_reference.py", "reference.py", "baseline.py")


class NotRepeatable(Exception):  # noqa: N818 - no error: the results just aren't kept
    """What the network computes depends on more than its weights and operators; the message says on what."""


def fingerprint(module: nn.Module, batches: Sequence[Batch], precisions: Sequence[Precision]) -> str:
    """A hash that is the same only where the reference is.

    Args:
        module: the network.
        batches: that it runs on, (N, C, H, W) float32 each.
        precisions: in which it runs besides float64.

    Raises:
        NotRepeatable: it draws random numbers, or decides by values what it runs.
    """
    digest = hashlib.sha256()
    digest.update(f"{torch.__version__} {torch.backends.cpu.get_cpu_capability()} {sorted(precisions)}".encode())
    sources = [Path(str(module.__file__)) for module in (arithmetic, observation, run)]
    for source in (*sources, *(Path(__file__).with_name(name) for name in COMPUTING)):
        digest.update(source.read_bytes())  # another way of computing the reference gives other results
    for name, tensor in _tensors(module).items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(_bytes(tensor))
    for batch in batches:
        digest.update(f"{batch.images.shape} {batch.kinds} {batch.names}".encode())
        digest.update(np.ascontiguousarray(batch.images).data)
    for image in {batch.images.shape[1:]: batch.images[:1] for batch in batches}.values():
        digest.update("\n".join(tape(module, image)).encode())
    return digest.hexdigest()


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _bytes(tensor: torch.Tensor) -> Any:
    array = tensor.detach().cpu().contiguous().reshape(-1)
    return array.view(torch.uint8).numpy().data if array.numel() else b""


def tape(module: nn.Module, image: np.ndarray[Any, Any]) -> list[str]:
    """Every operator that the network runs on an image (1, C, H, W), in order, as text.

    Raises:
        NotRepeatable: see `fingerprint`.
    """
    lines: list[str] = []
    known = WeakTensorKeyDictionary()
    for name, tensor in _tensors(module).items():
        known[tensor] = name

    def where(tensor: torch.Tensor) -> str:
        if tensor in known:
            return str(known[tensor])
        if tensor.numel() > LARGEST_CONSTANT:
            raise NotRepeatable(f"a tensor of {tuple(tensor.shape)} comes from outside of PyTorch")
        return f"constant {tensor.dtype} {tuple(tensor.shape)} {bytes(_bytes(tensor)).hex()}"

    class Noted(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if torch.Tag.nondeterministic_seeded in operator.tags:
                raise NotRepeatable(f"{operator} draws random numbers")
            if operator is torch.ops.aten._local_scalar_dense.default:  # noqa: SLF001 - the operator's name
                raise NotRepeatable("a value decides what is computed")
            told = pytree.tree_map_only(torch.Tensor, where, (args, kwargs or {}))
            lines.append(f"{operator} {told}")
            results = operator(*args, **(kwargs or {}))
            for i, tensor in enumerate(pytree.tree_leaves(results)):
                if isinstance(tensor, torch.Tensor) and tensor not in known:
                    known[tensor] = f"%{len(lines)}.{i}"
            return results

    given = torch.from_numpy(np.array(image))
    known[given] = "input"
    with evaluating(module), Noted():  # type: ignore[no-untyped-call]
        results = module(given)
    lines += [f"returned {where(t)}" for t in pytree.tree_leaves(results) if isinstance(t, torch.Tensor)]
    return lines
