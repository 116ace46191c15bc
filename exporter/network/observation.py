"""Observes a module while it runs, without changing it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

Observer = Callable[[str, Any, tuple[Any, ...]], Callable[[Any], None] | None]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[nn.Module]:
    """The module in eval mode without gradients; modes and buffers of all submodules are restored afterwards."""
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

    The path is that of the innermost running submodule, such as ``layer1.0.attention``; the operator is an overload of
    ``torch.ops.aten``. If the observer returns a function, it is called with the operator's result.
    """
    path: list[str] = []

    def enter(name: str) -> Callable[..., None]:
        return lambda *_: path.append(name)

    def leave(*_: Any) -> None:
        path.pop()

    class Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            receive = observer(path[-1] if path else "", operator, args)
            result = operator(*args, **(kwargs or {}))
            if receive is not None:
                receive(result)
            return result

    with ExitStack() as hooks:
        for name, submodule in module.named_modules():
            hooks.callback(submodule.register_forward_pre_hook(enter(name)).remove)
            hooks.callback(submodule.register_forward_hook(leave, always_call=True).remove)
        with Mode():  # type: ignore[no-untyped-call]
            yield
