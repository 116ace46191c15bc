"""The entries of a training checkpoint that hold weights, and the one that ``--checkpoint-key`` names."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from attn_export.exporter.checkpoint.inert import Inert, listed
from attn_export.exporter.checkpoint.state_dict import AVERAGED, PREFIXES, WRAPPERS, find, groups
from attn_export.exporter.errors import UsageError

DEPTH = 3
# First words of tensors' names that stand for a whole network, and not for a layer of one.
NETWORKS = (
    {prefix.rstrip(".") for prefix in PREFIXES}
    | set(AVERAGED)
    | set("student teacher online target generator discriminator encoder backbone".split())
)


def chosen(content: Any, key: str, path: Path) -> Any:
    """What a loaded file holds under this key, or the tensors whose names begin with it.

    Args:
        content: of the file.
        key: such as ``ema``, ``model`` or ``teacher``; also one inside of another, and a prefix such as ``ema.model``.
        path: for the message.

    Raises:
        UsageError: there are no weights of this name; the message lists those that there are.
    """
    found = next(_under(content, key, DEPTH), None)
    if found is not None:
        return found
    known = keys(content)
    near = get_close_matches(key, known, n=1)
    listing = f"It has {listed(known)}." if known else "It holds one network: leave the option out."
    raise UsageError(
        f"--checkpoint-key {key}: {path} holds no weights of this name",
        hint=f"Did you mean {near[0]}? {listing}" if near else listing,
    )


def keys(content: Any) -> list[str]:
    """The names that `chosen` takes, outer ones first."""
    return list(dict.fromkeys(_names(content, DEPTH, set())))


def _under(content: Any, key: str, depth: int) -> Iterator[Any]:
    if not isinstance(content, Mapping) or depth == 0:
        return
    if _holds_weights(content.get(key)):
        yield content[key]
    start = f"{key}."
    named = {n.removeprefix(start): t for n, t in content.items() if isinstance(n, str) and n.startswith(start)}
    if any(isinstance(value, torch.Tensor) for value in named.values()):
        yield named
    for wrapper in WRAPPERS:
        yield from _under(content.get(wrapper), key, depth - 1)


def _names(content: Any, depth: int, seen: set[int]) -> Iterator[str]:
    if not isinstance(content, Mapping) or depth == 0 or id(content) in seen:
        return
    seen.add(id(content))
    yield from (name for name, value in content.items() if isinstance(name, str) and _holds_weights(value))
    tensors = {n: t for n, t in content.items() if isinstance(n, str) and isinstance(t, torch.Tensor)}
    yield from (first for first, _ in groups(tensors) if first in NETWORKS)
    for wrapper in WRAPPERS:
        yield from _names(content.get(wrapper), depth - 1, seen)


def _holds_weights(value: Any) -> bool:
    return isinstance(value, Mapping | Inert | torch.nn.Module) and find(value) is not None
