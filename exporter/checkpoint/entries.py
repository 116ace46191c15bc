"""The entries of a training checkpoint that hold weights, and the one that ``--checkpoint-key`` names."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from attn_export.exporter.checkpoint.inert import Inert, is_name, listed
from attn_export.exporter.checkpoint.state_dict import AVERAGED, PREFIXES, StateDict, find, groups
from attn_export.exporter.errors import UsageError

# Of dictionaries in dictionaries, and of the items at the beginning of a list.
DEPTH, ITEMS = 6, 3
# First words of tensors' names that stand for a whole network, and not for a layer of one.
NETWORKS = {prefix.rstrip(".") for prefix in PREFIXES} | set(AVERAGED)
NETWORKS |= set("student teacher online target generator discriminator encoder backbone".split())


def chosen(content: Any, key: str, path: Path) -> tuple[Any, tuple[str, ...]]:
    """What a loaded file holds under this key, or the tensors whose names begin with it, with a note.

    A key is such as ``ema``, ``model`` or ``teacher``; also one inside of another, and a prefix such as ``ema.model``.

    Raises:
        UsageError: there are no weights of this name; the message lists those that there are.
    """
    for found in _under(content, key):
        return found, (f"the weights are those under {key!r}, as --checkpoint-key says",)
    known = keys(content)
    near = get_close_matches(key, known, n=1)
    listing = f"It has {listed(known)}." if known else "It holds one network: leave the option out."
    raise UsageError(
        f"--checkpoint-key {key}: {path} holds no weights of this name",
        hint=f"Did you mean {near[0]}? {listing}" if near else listing,
    )


def only(content: Any) -> tuple[Any, tuple[str, ...]]:
    """The one part of a loaded file that holds weights where it has no usual name, with a note; else all of it."""
    if isinstance(content, list | tuple):
        inside = next((item for item in content[:ITEMS] if _holds_weights(item)), None)
        return (content, ()) if inside is None else (inside, ("the weights are those of the first item in the file",))
    if not isinstance(content, Mapping) or _holds_weights(content):
        return content, ()
    entries = dict(_entries(content))
    if len(entries) != 1:
        return content, ()
    ((name, inside),) = entries.items()
    return inside, (f"the weights are those under {name!r}, the only ones in the file",)


def keys(content: Any) -> list[str]:
    """The names that `chosen` takes, outer ones first."""
    prefixes = (first for mapping in _mappings(content) for first, _ in groups(_tensors(mapping)) if first in NETWORKS)
    return list(dict.fromkeys((*(name for name, _ in _entries(content)), *prefixes)))


def state_dicts(content: Any) -> Iterator[tuple[StateDict, tuple[str, ...]]]:
    """Every state dict that has a name, with a note."""
    for name, value in _entries(content):
        if (found := find(value)) is not None:
            yield found[0], (f"the weights are those under {name!r}", *found[1])


def instead(content: Any) -> str:
    """What a file without a state dict holds, where that is known."""
    if isinstance(content, Mapping) and {"state", "param_groups"} <= set(content):
        return "an optimizer's state"
    if isinstance(content, torch.Tensor):
        return f"one tensor of {'x'.join(map(str, content.shape))}"
    if isinstance(content, list | tuple) and any(isinstance(item, torch.Tensor) for item in content):
        return f"a list of {len(content)} tensors without names"
    return ""


def _under(content: Any, key: str) -> Iterator[Any]:
    yield from (value for name, value in _entries(content) if name == key)
    start = f"{key}."
    for mapping in _mappings(content):
        named = {n.removeprefix(start): t for n, t in _tensors(mapping).items() if n.startswith(start)}
        if named:
            yield named


def _entries(content: Any) -> Iterator[tuple[str, Any]]:
    """Names and values that hold weights."""
    known: dict[int, bool] = {}
    for mapping in _mappings(content):
        for name, value in mapping.items():
            if is_name(name) and not isinstance(value, torch.Tensor):
                if id(value) not in known:
                    known[id(value)] = _holds_weights(value)
                if known[id(value)]:
                    yield name, value


def _mappings(content: Any) -> Iterator[Mapping[Any, Any]]:
    """A loaded dictionary and those in it, each once, down to some depth.

    Optimizers are left out: their averages have the shapes of weights.
    """
    level, seen = [content], set()
    for _ in range(DEPTH):
        level = [found for found in level if isinstance(found, Mapping) and id(found) not in seen]
        level = list({id(found): found for found in level}.values())
        seen |= {id(found) for found in level}
        yield from level
        level = [v for found in level for n, v in found.items() if is_name(n) and "optim" not in n.lower()]


def _tensors(mapping: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in mapping.items() if is_name(name) and isinstance(value, torch.Tensor)}


def _holds_weights(value: Any) -> bool:
    if not isinstance(value, Mapping | Inert | torch.nn.Module):
        return False
    found = find(value)
    return found is not None and any(tensor.dim() > 1 for tensor in found[0].values())
