"""Finds the state dict in a training script's checkpoint, and normalizes its names."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch

from attn_export.exporter.checkpoint.inert import Inert, is_name, listed, shown
from attn_export.exporter.errors import NonFiniteWeightsError, UnreadableCheckpointError

# In order of preference: training scripts evaluate the averaged weights.
WRAPPERS = (
    "state_dict_ema", "model_ema", "ema_state_dict", "ema", "ema_model", "model_ema_state_dict", "params_ema", "shadow",
    "state_dict", "model_state_dict", "model_state", "model", "module", "net", "net_state_dict", "network", "weights",
    "params",
)  # fmt: skip
AVERAGED = ("ema", "model_ema", "ema_model", "teacher_ema")
PREFIXES = ("module.", "model.", "_orig_mod.", "net.", "network.")
# Of modules in modules.
DEEPEST, MOST_MODULES = 32, 10_000
# What averaging wrappers and counters of operations (thop) leave among the weights.
BOOKKEEPING = ("n_averaged", "total_ops", "total_params")
# Of BatchNorm; no parameters.
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
READABLE = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.int64, torch.int32, torch.uint8,
)  # fmt: skip

StateDict = dict[str, torch.Tensor]


def find(content: Any, *, depth: int = 3, seen: set[int] | None = None) -> tuple[StateDict, tuple[str, ...]] | None:
    """The state dict inside a loaded file, with notes on how it was found; None if there is none.

    It may stand under one of the usual names (`WRAPPERS`, also one inside the other), be the content itself, or be
    spread over a pickled module.

    ``seen`` are the ids of dictionaries that were looked into: one may hold itself, under all names.
    """
    if isinstance(content, Inert | torch.nn.Module):
        weights = dict(_tensors_of_module(content))
        return (strip_prefixes(weights), ("the weights were taken out of a pickled module",)) if weights else None
    seen = set() if seen is None else seen
    if not isinstance(content, Mapping) or depth < 0 or id(content) in seen:
        return None
    seen.add(id(content))
    found = [
        (key, inner)
        for key in WRAPPERS
        if isinstance(content.get(key), Mapping | Inert | torch.nn.Module)
        and (inner := find(content[key], depth=depth - 1, seen=seen)) is not None
    ]
    if found:
        key, (weights, notes) = found[0]
        others = [other for other, _ in found[1:]]
        beside = (
            f", not under {', '.join(map(repr, others))}: --checkpoint-key {others[0]} takes these" if others else ""
        )
        weights, completed = _with_statistics(weights, found[1:])
        return weights, (f"the weights are those under {key!r}{beside}", *completed, *notes)
    tensors = {
        name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, torch.Tensor)
    }
    if not tensors:
        return None
    weights = {shown(name): tensor for name, tensor in tensors.items()}
    left_out = [str(name) for name in content if name not in tensors]
    return strip_prefixes(weights), (f"left out, being no tensors: {listed(left_out)}",) if left_out else ()


def _with_statistics(
    weights: StateDict, others: Sequence[tuple[str, tuple[StateDict, tuple[str, ...]]]]
) -> tuple[StateDict, tuple[str, ...]]:
    """Averages of parameters alone with the statistics of the network beside them, which is how they are evaluated."""
    for key, (whole, _) in others:
        lacking = whole.keys() - weights.keys()
        if weights.keys() < whole.keys() and all(name.endswith(STATISTICS) for name in lacking):
            return {**whole, **weights}, (f"BatchNorm's statistics, which it lacks, are those under {key!r}",)
    return weights, ()


def strip_prefixes(weights: StateDict) -> StateDict:
    """Remove the prefixes of parallel, compiled and wrapped modules, while every name has one."""
    weights = {name: tensor for name, tensor in weights.items() if name.rpartition(".")[2] not in BOOKKEEPING}
    while weights:
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in weights)), None)
        if prefix is None:
            break
        weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    return weights


def groups(weights: StateDict) -> list[tuple[str, StateDict]]:
    """The parts of a state dict by the first component of their names, the largest first.

    Training frameworks save several networks, losses and metrics side by side: ``model.*``, ``criterion.*``.
    """
    parts: dict[str, StateDict] = {}
    for name, tensor in weights.items():
        first, _, rest = name.partition(".")
        parts.setdefault(first, {})[rest] = tensor
    found = [(first, strip_prefixes(part)) for first, part in parts.items() if "" not in part]
    return sorted(found, key=lambda entry: -len(entry[1]))


def usable(weights: StateDict, origin: str) -> StateDict:
    """The weights as dense, finite float32 tensors; counters stay integers.

    Raises:
        UnreadableCheckpointError: a tensor has an unsupported type.
        NonFiniteWeightsError: a tensor has NaN or infinity in float32.
    """
    for name, tensor in weights.items():
        if kind := _unusable_kind(tensor):
            raise UnreadableCheckpointError(
                f"{origin}: {name} is {kind}, which a float32 network can't use",
                hint="Save the weights as ordinary dense floating-point tensors.",
            )
    weights = {name: t.detach().float() if t.is_floating_point() else t for name, t in weights.items()}
    bad = [n for n, t in weights.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if bad:
        raise NonFiniteWeightsError(
            f"{origin} holds NaN or infinity in {listed(bad)}",
            tensors=bad,
            hint="The training diverged, or the file is damaged: take an earlier checkpoint.",
        )
    return weights


def _unusable_kind(tensor: torch.Tensor) -> str:
    """In words, empty if nothing is wrong with it."""
    if tensor.is_meta:
        return "on the meta device"
    if tensor.is_quantized:
        return "quantized"
    if tensor.layout != torch.strided or tensor.is_nested:
        return "sparse or nested"
    if tensor.numel() == 0:
        return "empty"
    if tensor.dtype.is_complex:
        return "complex"
    return "" if tensor.dtype in READABLE else f"of type {name_of_dtype(tensor)}"


def name_of_dtype(tensor: torch.Tensor) -> str:
    """``float16`` and the like."""
    return str(tensor.dtype).removeprefix("torch.")


def _tensors_of_module(
    module: Any, prefix: str = "", depth: int = DEEPEST, visits: Iterator[int] | None = None
) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and tensors of a pickled module, whose class wasn't imported and whose parts may be anything."""
    if isinstance(module, torch.nn.Module):
        with suppress(RecursionError, AttributeError):  # of one that contains itself, or a part that is no module
            yield from module.state_dict(prefix=prefix).items()
        return
    visits = iter(range(MOST_MODULES)) if visits is None else visits
    state = module.state if isinstance(module, Inert) else None
    # One that contains itself twice would be visited 2^32 times.
    if not isinstance(state, dict) or "_modules" not in state or depth == 0 or next(visits, None) is None:
        return
    unsaved = state.get("_non_persistent_buffers_set")
    for group in ("_parameters", "_buffers"):
        for name, tensor in _named(state.get(group)):
            if isinstance(tensor, torch.Tensor) and not (isinstance(unsaved, set | list) and name in unsaved):
                yield prefix + name, tensor.detach()
    for name, child in _named(state.get("_modules")):
        yield from _tensors_of_module(child, f"{prefix}{name}.", depth - 1, visits)


def _named(group: Any) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in group.items() if is_name(name)] if isinstance(group, dict) else []
