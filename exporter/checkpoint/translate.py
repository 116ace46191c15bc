"""A state dict in somebody else's names -> the same in ours, by the rows of `dialects`."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from attn_export.exporter.checkpoint.dialects import LAYOUTS, OWN, SPELLINGS, Layout, Rename, Spelling
from attn_export.exporter.checkpoint.state_dict import StateDict
from attn_export.exporter.checkpoint.structure import own_layers

# Names of everything but attention, in torchvision's ResNets and MobileNets.
HOST = re.compile(
    r"(?:layer\d+\.\d+\.)?(?:conv[123]|bn[123]|downsample\.[01])\.\w+"
    r"|(?:fc|features\.\d+\.(?:\d|conv\.\d(?:\.\d)?|block\.\d+(?:\.\d+)?)|classifier(?:\.\d)?)\.\w+"
)
# Block, layer in the attention, tensor.
ATTENTION = re.compile(r"(layer\d+\.\d+\.|features\.\d+\.)(.+)\.(\w+)")
SPATIAL = "SpatialGate.conv1.weight"
BLOCK = re.compile(r"layer(\d+)\.(\d+)\.")
# A bias of a convolution with a BatchNorm behind it; not those in attention, which have a place of their own.
BIASED = re.compile(r"((?:layer\d+\.\d+\.)?)(?:conv([123])|downsample\.0)\.bias")


@dataclass(frozen=True)
class Translation:
    """Weights under our names, and by which rows."""

    weights: StateDict
    layout: Layout = OWN
    spelling: Spelling | None = None


def translations(weights: StateDict) -> Iterator[Translation]:
    """One for each layout that the names may be in."""
    layouts = [row for row in LAYOUTS if all(any(re.search(mark, n) for n in weights) for mark in row.marks)]
    for layout in layouts or [OWN]:
        renamed = _renumbered(_renamed(weights, layout.renames)) if layout is not OWN else weights
        yield _spelled(_without_biases(renamed), layout)


def _renamed(weights: StateDict, renames: Iterable[Rename]) -> StateDict:
    rules = [(re.compile(theirs), ours) for theirs, ours in renames]
    found = {}
    for name, tensor in weights.items():
        for theirs, ours in rules:
            name = theirs.sub(ours, name)
        found[name] = tensor
    return found if len(found) == len(weights) else weights  # two names became one


def _renumbered(weights: StateDict) -> StateDict:
    """Stages count from one, blocks from zero."""
    blocks = sorted({tuple(map(int, found.groups())) for n in weights if (found := BLOCK.match(n))})
    stages = sorted({stage for stage, _ in blocks})
    own = {s: [b for stage, b in blocks if stage == s] for s in stages}
    places = {(s, b): f"layer{stages.index(s) + 1}.{own[s].index(b)}." for s, b in blocks}

    def place(found: re.Match[str]) -> str:
        return places[int(found[1]), int(found[2])]

    return {BLOCK.sub(place, name, count=1): tensor for name, tensor in weights.items()}


def _without_biases(weights: StateDict) -> StateDict:
    """A bias before a BatchNorm moves into its mean."""
    found = dict(weights)
    for name, bias in weights.items():
        place = BIASED.fullmatch(name)
        mean = place and place[1] + (f"bn{place[2]}" if place[2] else "downsample.1") + ".running_mean"
        if mean and mean in weights and weights[mean].shape == bias.shape:
            found[mean] = weights[mean].double() - found.pop(name).double()
    return found


def _spelled(weights: StateDict, layout: Layout) -> Translation:
    """With the attention in our names, where a row knows at least half of its layers."""
    places = {n: found for n in weights if not HOST.fullmatch(n) and (found := ATTENTION.fullmatch(n))}
    layers = {found[2] for found in places.values()}
    best, ours = max(((row, _layers(row, layers)) for row in SPELLINGS), key=lambda pair: len(pair[1]))
    if not layers or 2 * len(ours) < len(layers) or _are_ours(layers):
        return Translation(weights, layout)
    names = {n: f"{found[1]}attention.{ours[found[2]]}.{found[3]}" for n, found in places.items() if found[2] in ours}
    flipped = {
        names.get(n, n): tensor.flip(1) if best.maximum_first and names.get(n, n).endswith(SPATIAL) else tensor
        for n, tensor in weights.items()
    }
    return Translation(flipped, layout, best if any(n != own for n, own in names.items()) else None)


def _are_ours(layers: set[str]) -> bool:
    """Whether these are all layers of an attention block, under the names that it has here."""
    inner = {layer.removeprefix("attention.") for layer in layers if layer.startswith("attention.")}
    return len(inner) == len(layers) and inner in own_layers()


def _layers(row: Spelling, layers: Iterable[str]) -> dict[str, str]:
    """Their layers -> ours, for those that the row knows."""
    return {theirs: ours for theirs in layers for ours, part in row.parts.items() if re.fullmatch(part, theirs)}
