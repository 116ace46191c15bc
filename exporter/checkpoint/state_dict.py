"""Finding a state dict in what a training script saved, and the names in it that matter."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from attn_export.exporter.checkpoint.inert import Inert

# In order of preference: averaged weights are the ones a training script evaluates.
WRAPPERS = (
    "state_dict_ema", "model_ema", "ema_state_dict", "ema",
    "state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "weights",
)  # fmt: skip
PREFIXES = ("module.", "model.", "_orig_mod.", "net.", "network.")
# What averaging and parallel wrappers add beside the weights.
BOOKKEEPING = ("n_averaged",)

StateDict = dict[str, torch.Tensor]


def find(content: Any) -> tuple[StateDict, tuple[str, ...]] | None:
    """The state dict inside a loaded file, with notes on how it was found; None if there is none.

    It may be the content itself, stand under one of the usual names (`WRAPPERS`, also one inside the other), or be
    spread over a pickled module.
    """
    if isinstance(content, Inert | torch.nn.Module):
        weights = dict(_tensors_of_module(content))
        return (strip_prefixes(weights), ("the weights were taken out of a pickled module",)) if weights else None
    if not isinstance(content, Mapping):
        return None
    if (bare := _as_state_dict(content)) is not None:
        return strip_prefixes(bare), ()
    found = [(key, inner) for key in WRAPPERS if key in content and (inner := find(content[key])) is not None]
    if not found:
        return None
    key, (weights, notes) = found[0]
    others = [other for other, _ in found[1:]]
    beside = f", not under {', '.join(map(repr, others))}" if others else ""
    return weights, (f"the weights are those under {key!r}{beside}", *notes)


def strip_prefixes(weights: StateDict) -> StateDict:
    """Take off the prefixes of parallel, compiled and wrapped modules, as long as every name has one."""
    weights = {name: tensor for name, tensor in weights.items() if name not in BOOKKEEPING}
    while weights:
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in weights)), None)
        if prefix is None:
            break
        weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    return weights


def not_finite(weights: StateDict) -> list[str]:
    """The tensors that hold NaN or infinity."""
    return [n for n, t in weights.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]


def _as_state_dict(content: Mapping[Any, Any]) -> StateDict | None:
    """The mapping if it is names to tensors and nothing else, besides bookkeeping."""
    if not content or not all(isinstance(name, str) for name in content):
        return None
    tensors = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    return tensors if len(tensors) == len(content) else None


def _tensors_of_module(module: Any, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Names and tensors of a pickled module, whose class may never have been imported."""
    if isinstance(module, torch.nn.Module):
        yield from module.state_dict().items()
        return
    state = module.state if isinstance(module, Inert) else None
    if not isinstance(state, Mapping) or "_modules" not in state:
        return
    unsaved = state.get("_non_persistent_buffers_set") or ()
    for group in ("_parameters", "_buffers"):
        for name, tensor in (state.get(group) or {}).items():
            if isinstance(tensor, torch.Tensor) and name not in unsaved:
                yield prefix + name, tensor.detach()
    for name, child in (state.get("_modules") or {}).items():
        yield from _tensors_of_module(child, f"{prefix}{name}.")
