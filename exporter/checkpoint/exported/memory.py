"""How much memory a program asks for, found without computing it: a file of two kilobytes can ask for all of it."""

from collections.abc import Sequence
from typing import Any

import psutil
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from attn_export.exporter.artifacts import Input
from attn_export.exporter.checkpoint.exported.network import ProgramNetwork
from attn_export.exporter.checkpoint.exported.unsafe import Unusable

# Of the machine's memory, for one tensor.
SHARE = 0.5
ORIGIN = "Where does this file come from? If it is meant, export it again with smaller inputs."


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses results larger than ``most`` bytes."""

    def __init__(self, most: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._most = most

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = operator(*args, **(kwargs or {}))
        for tensor in pytree.tree_leaves(results):
            if isinstance(tensor, torch.Tensor) and tensor.numel() * tensor.itemsize > self._most:
                size = "x".join(map(str, tensor.shape))
                raise Unusable(f"makes a tensor of {size}, more than half of this machine's memory", ORIGIN)
        return results


def check_memory(network: ProgramNetwork, inputs: Sequence[Input]) -> None:
    """Run a program on fake tensors, which have shapes and no values.

    It ends early where sizes depend on values, since those are unknown.

    Raises:
        Unusable: a tensor would take more than half of the memory.
    """
    most = SHARE * psutil.virtual_memory().total
    try:
        with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True), _Watch(most):
            network(*(torch.empty(taken.shape, dtype=getattr(torch, taken.dtype)) for taken in inputs))
    except Unusable:
        raise
    except Exception:  # noqa: BLE001 (what fails here fails again where it is computed, with its message)
        return
