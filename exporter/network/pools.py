"""Pools over whole axes in a trace: those that follow the image's size, and those that can't."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.overrides import TorchFunctionMode

from attn_export.exporter.errors import CaptureError

REDUCTIONS: Mapping[str, Callable[..., torch.Tensor]] = {"avg_pool2d": torch.mean, "max_pool2d": torch.amax}
# What these functions take after the kernel, in their order, and what a global pool has to have.
PARAMETERS = {
    "avg_pool2d": ("stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    "max_pool2d": ("stride", "padding", "dilation", "ceil_mode", "return_indices"),
}
PLAIN = {"padding": 0, "dilation": 1, "divisor_override": None, "return_indices": False}
IMAGE_RANK = 4


class PoolsAsReductions(TorchFunctionMode):
    """Traces pools over whole axes as means and maxima, which are the same at every size.

    torch.export makes constants of kernels and sizes that are computed from dynamic ones, as in ``F.avg_pool2d(x,
    x.shape[2:])`` and ``nn.AdaptiveAvgPool2d((None, 1))``. Pools with a constant kernel are left alone.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The result of a function of torch."""
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        pool = name.removeprefix("adaptive_")
        if pool in REDUCTIONS and args and isinstance(args[0], torch.Tensor) and args[0].ndim == IMAGE_RANK:
            axes = _pooled_axes(pool, args, kwargs) if pool == name else _adaptive_axes(args, kwargs)
            if axes:
                return REDUCTIONS[pool](args[0], axes, keepdim=True)
        return func(*args, **kwargs)


def _pooled_axes(pool: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[int, ...]:
    """Height and width, if the kernel is computed and covers both."""
    kernel = args[1] if len(args) > 1 else kwargs.get("kernel_size")
    given = dict(zip(PARAMETERS[pool], args[2:], strict=False)) | dict(kwargs)
    if any(given.get(name, usual) not in (usual, (usual, usual)) for name, usual in PLAIN.items()):
        return ()
    if not isinstance(kernel, Sequence) or not any(isinstance(length, torch.SymInt) for length in kernel):
        return ()
    return (2, 3) if len(kernel) == 2 and all(map(_are_equal, kernel, args[0].shape[2:])) else ()


def _adaptive_axes(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[int, ...]:
    """The axis that is pooled to one, if the other keeps its size and one of them is dynamic."""
    wanted = args[1] if len(args) > 1 else kwargs.get("output_size")
    height, width = args[0].shape[2:]
    is_dynamic = isinstance(height, torch.SymInt) or isinstance(width, torch.SymInt)
    if not is_dynamic or not isinstance(wanted, Sequence) or True in (*args[2:], kwargs.get("return_indices")):
        return ()
    if wanted[0] == 1 and (wanted[1] is None or _are_equal(wanted[1], width)):
        return (2,)
    return (3,) if wanted[1] == 1 and (wanted[0] is None or _are_equal(wanted[0], height)) else ()


def _are_equal(length: Any, size: Any) -> bool:
    return bool(statically_known_true(length == size))


def refuse_fixed_pools(program: torch.export.ExportedProgram, axes: str) -> None:
    """Refuse pools whose kernel, a constant in the file, follows from a dynamic size; ``axes`` names the dynamic axes.

    Raises:
        CaptureError: a pool covers its whole input, or pools to a fixed size, along a dynamic axis.
    """
    for node in program.graph.nodes:
        if "pool2d" not in str(node.target):
            continue
        size, length = node.args[0].meta["val"].shape[2:], (list(node.args[1]) * 2)[:2]
        open_lengths = [n for n, own in zip(length, size, strict=True) if isinstance(own, torch.SymInt)]
        way = f"so {axes} can't be dynamic"
        if "adaptive" in str(node.target) and open_lengths.count(1) < len(open_lengths):
            raise _refused(
                node,
                f"pools adaptively to {length[0]} x {length[1]}, and PyTorch's exporter writes the kernel for this "
                f"size into the file, {way}",
                "pool over whole axes: nn.AdaptiveAvgPool2d((None, 1)) and x.mean(3, keepdim=True) are the same",
            )
        if "adaptive" not in str(node.target) and open_lengths and length == list(map(_example, size)):
            raise _refused(
                node,
                f"pools with a kernel of its input's size, {way}",
                "replace the pool by nn.AdaptiveAvgPool2d(1) or nn.AdaptiveMaxPool2d(1), which compute the same",
            )


def _example(size: int | torch.SymInt) -> int:
    """What a size was in the trace."""
    return int(size.node.hint) if isinstance(size, torch.SymInt) else size


def _refused(node: torch.fx.Node, what: str, instead: str) -> CaptureError:
    path = module_of(node)
    return CaptureError(
        f"{where(path)} {what}",
        module_path=path,
        hint=f"Either export for a static size (--dynamic batch), or {instead} at every size.",
    )


def module_of(node: torch.fx.Node) -> str | None:
    """Path of the submodule that a node was traced in."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else None


def where(path: str | None) -> str:
    """The submodule, in a message."""
    return f"module {path}" if path else "the network"
