"""Calls a network with its inputs."""

import inspect
from collections.abc import Mapping
from dataclasses import is_dataclass
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from attn_export.exporter.records.arrays import Arrays

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def call(module: nn.Module, arrays: Arrays) -> Any:
    """What a network returns; each array is (N, ...)."""
    args, kwargs = arguments(module, tensors_of(arrays))
    results = module(*args, **kwargs)
    _register(results)
    return results


def _register(results: Any) -> None:
    """Make containers of the dataclasses in what a network returns, so that torch finds their tensors."""
    for leaf in pytree.tree_leaves(results):
        if is_dataclass(leaf) and not isinstance(leaf, type):
            torch.export.register_dataclass(type(leaf))
            _register(leaf)


def tensors_of(arrays: Arrays) -> dict[str, torch.Tensor]:
    """The arrays as tensors of their own: a network may change its input in place."""
    return {name: torch.from_numpy(np.array(array, order="C")) for name, array in arrays.items()}


def arguments(
    module: nn.Module, tensors: Mapping[str, torch.Tensor]
) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
    """The inputs as arguments of ``forward``: by position as far as none is left out, so that hooks see them; then by
    name. One that no parameter is called like is the first argument.
    """
    names = positional_parameters(module) or list(tensors)
    first = next(iter(tensors))
    if first not in names:
        names = [first]
    leading = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(tensors, names, strict=False))))
    given = list(tensors.items())
    return tuple(tensor for _, tensor in given[:leading]), dict(given[leading:])


def positional_parameters(module: nn.Module) -> list[str]:
    """What ``forward`` takes by position; nothing where that isn't known, as of a compiled function."""
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return []
    return [parameter.name for parameter in parameters if parameter.kind in POSITIONAL]
