"""Looking at a module while it runs, without changing it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

Observer = Callable[[str, Any, tuple[Any, ...]], None]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[nn.Module]:
    """The module in eval mode without gradients; every submodule has its own mode and buffers back afterwards."""
    modes = {submodule: submodule.training for submodule in module.modules()}
    buffers = [
        (submodule, name, buffer, buffer.clone())
        for submodule in module.modules()
        for name, buffer in submodule.named_buffers(recurse=False)
    ]
    module.eval()
    try:
        with torch.no_grad():
            yield module
    finally:
        for submodule, training in modes.items():
            submodule.training = training
        with torch.no_grad():
            for submodule, name, buffer, values in buffers:
                setattr(submodule, name, buffer.copy_(values))


@contextmanager
def observed(module: nn.Module, observer: Observer) -> Iterator[None]:
    """Call ``observer(module_path, operator, arguments)`` before every operator that ``module`` runs.

    The path is that of the innermost submodule at work, such as ``layer1.0.attention``; the operator is an overload of
    ``torch.ops.aten``.
    """
    path: list[str] = []

    def enter(name: str) -> Callable[..., None]:
        return lambda *_: path.append(name)

    def leave(*_: Any) -> None:
        path.pop()

    class Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            observer(path[-1] if path else "", operator, args)
            return operator(*args, **(kwargs or {}))

    with ExitStack() as hooks:
        for name, submodule in module.named_modules():
            hooks.callback(submodule.register_forward_pre_hook(enter(name)).remove)
            hooks.callback(submodule.register_forward_hook(leave, always_call=True).remove)
        with Mode():  # type: ignore[no-untyped-call]
            yield


@contextmanager
def in_double() -> Iterator[None]:
    """Inside, every function gets its float32 arguments in double precision.

    A module whose input is double then computes in double throughout, though its weights stay as they are: each is
    converted when it is used, and the copy is gone after that. A second set of weights would double the memory. Tensors
    that ``forward`` makes are double from the start.
    """
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _DoubleFunctions(), _DoubleOperators():  # type: ignore[no-untyped-call]
            yield
    finally:
        torch.set_default_dtype(default)


class _DoubleFunctions(TorchFunctionMode):
    """For what is called in Python: some functions compare the types of their arguments before any operator runs."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        if name == "__get__":  # an attribute such as shape
            return function(*args, **(kwargs or {}))
        return function(*_doubled(args, name), **_doubled(kwargs or {}))


class _DoubleOperators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """For what a function makes inside itself."""

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return operator(*_doubled(args, operator.overloadpacket.__name__), **_doubled(kwargs or {}))


@contextmanager
def in_half() -> Iterator[None]:
    """Inside, every operator computes in float32 and has its arguments and its result rounded to float16.

    That is what a runtime does which multiplies in float16, accumulates in float32 and stores float16; computing in
    float16 itself takes PyTorch 22 times as long on a CPU. Values beyond float16's largest stay as they are: an
    artifact computes those in float32, and one that didn't would give infinities, and no agreement.
    """
    with _HalfOperators():  # type: ignore[no-untyped-call]
        yield


class _HalfOperators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Views are handed on as they are: what is written to one has to reach the tensor behind it."""

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if operator.is_view:
            return operator(*args, **kwargs)
        name = operator.overloadpacket.__name__
        if name.endswith("_") and not name.endswith("__"):
            result = operator(args[0], *_halved(args[1:]), **_halved(kwargs))
            if isinstance(result, torch.Tensor) and result.dtype == torch.float32:
                result.copy_(_half(result))
            return result
        return _halved(operator(*_halved(args), **_halved(kwargs)))


def _halved(tree: Any) -> Any:
    return pytree.tree_map_only(torch.Tensor, lambda t: _half(t) if t.dtype == torch.float32 else t, tree)


def _half(tensor: torch.Tensor) -> torch.Tensor:
    """The nearest float16 numbers, as float32; those beyond float16's largest as they are."""
    rounded = tensor.half().float()
    beyond = rounded.isinf()
    return torch.where(beyond, tensor, rounded) if beyond.any() else rounded


def _doubled(tree: Any, function: str = "") -> Any:
    """The arguments in double precision, but for the one that the function writes to."""
    if tree and (function == "__setitem__" or (function.endswith("_") and not function.endswith("__"))):
        return (tree[0], *_doubled(tree[1:]))
    return pytree.tree_map_only(torch.Tensor, lambda t: t.double() if t.dtype == torch.float32 else t, tree)
