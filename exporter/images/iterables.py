"""Inputs from the user's own Python: a data loader, a generator, a list of arrays or tensors."""

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from attn_export.exporter.artifacts import Input
from attn_export.exporter.checkpoint.user_code import failures_reported, open_sources
from attn_export.exporter.errors import InputError, UsageError
from attn_export.exporter.images.arrays import checked
from attn_export.exporter.records.arrays import Array, Arrays

NAMED = re.compile(r"[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*")
MOST = 2048  # images; an iterable may have no end


def named_iterable(text: str) -> Iterable[Any]:
    """What ``package.module:name`` names, called if it is a function. The working folder is searched first.

    Raises:
        UsageError: there is none, or it is no iterable.
        InputError: the code raises an error.
    """
    module_name, _, name = text.partition(":")
    open_sources(None)
    with failures_reported(f"{text} failed"):
        try:
            found = getattr(import_module(module_name), name)
        except (ModuleNotFoundError, AttributeError) as error:
            raise UsageError(f"{text}: {error}", hint="Run this where `import` finds the module.") from error
        found = found if isinstance(found, Iterable) or not callable(found) else found()
    if not isinstance(found, Iterable):
        raise UsageError(f"{text} is a {type(found).__name__}", hint="Name a data loader, a generator or a list.")
    return found


def read_iterable(items: Iterable[Any], inputs: Sequence[Input], origin: str) -> Arrays:
    """The first `MOST` images of an iterable, (N, ...) of each input.

    Each item is one image or a batch of them, preprocessed: an array, a tensor, one with its label as data loaders
    yield them, or a mapping with one for each input.

    Raises:
        InputError: the code raises an error, or yields nothing, or what doesn't fit.
    """
    batches: list[Arrays] = []
    with failures_reported(f"{origin} failed"):
        for item in items:
            batches.append(_batch(item, inputs, origin))
            if sum(len(next(iter(batch.values()))) for batch in batches) >= MOST:
                break
    if not batches:
        raise InputError(f"{origin} yields no images", hint="A generator that was used up yields nothing again.")
    joined = {name: np.concatenate([batch[name] for batch in batches])[:MOST] for name in batches[0]}
    return checked(joined, inputs, origin)


def _batch(item: Any, inputs: Sequence[Input], origin: str) -> Arrays:
    """One item as (N, ...) of each input."""
    item = item[0] if isinstance(item, list | tuple) and item else item
    given = item if isinstance(item, Mapping) else {inputs[0].name: item}
    ranks = {taken.name: len(taken.shape) for taken in inputs}
    arrays = {str(name): _array(value, origin) for name, value in given.items()}
    return {name: array[None] if array.ndim == ranks.get(name, 0) - 1 else array for name, array in arrays.items()}


def _array(value: Any, origin: str) -> Array:
    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    if array.dtype.kind not in "fiub" or not array.ndim:
        raise InputError(
            f"{origin} yields a {type(value).__name__}", hint="Let it yield preprocessed images, as arrays or tensors."
        )
    return array
