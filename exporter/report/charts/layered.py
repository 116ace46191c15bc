"""Where the nodes of a small graph stand in a drawing: in layers by depth, with few crossings and short edges.

Sugiyama, Tagawa and Toda: "Methods for visual understanding of hierarchical system structures", 1981: layers by the
longest path, a point in every layer that an edge passes, order by barycentres, then places that stay apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

SWEEPS = 8
STRAIGHTENINGS = 60
STEADY = 50.0  # how much more a node keeps to its place than an edge that passes it


@dataclass(frozen=True)
class Drawing:
    """Places in units of one node's width and of one layer.

    Attributes:
        places: (across, layer) of each node.
        edges: for each the points that it goes through, from its producer to its consumer.
        width: from the leftmost centre to the rightmost.
        layers: how many.
    """

    places: tuple[tuple[float, int], ...]
    edges: tuple[tuple[tuple[float, int], ...], ...]
    width: float
    layers: int


def layered(inputs: Sequence[Sequence[int]], passing: float = 0.32) -> Drawing:
    """A drawing of an acyclic graph.

    Args:
        inputs: of each node the nodes that it reads, all earlier than itself.
        passing: the width of an edge that passes a layer, in widths of a node.
    """
    depth = _depths(inputs)
    layers: list[list[int]] = [[] for _ in range(max(depth, default=0) + 1)]
    for node, level in enumerate(depth):
        layers[level].append(node)
    above: dict[int, list[int]] = {node: [] for node in range(len(depth))}
    chains = []
    free = len(depth)
    for node, read in enumerate(inputs):
        for producer in read:
            chain = [producer]
            for level in range(depth[producer] + 1, depth[node]):
                layers[level].append(free)
                above[free] = [chain[-1]]
                chain.append(free)
                free += 1
            above[node].append(chain[-1])
            chains.append([*chain, node])
    below: dict[int, list[int]] = {node: [] for node in range(free)}
    for node, read in above.items():
        for producer in read:
            below[producer].append(node)
    layers = _ordered(layers, above, below)
    widths = [1.0 if node < len(depth) else passing for node in range(free)]
    across = _placed(layers, above, below, widths)
    level_of = {node: level for level, nodes in enumerate(layers) for node in nodes}
    shift = min(across, default=0.0)
    points = [(place - shift, level_of[node]) for node, place in enumerate(across)]
    return Drawing(
        places=tuple(points[: len(depth)]),
        edges=tuple(tuple(points[node] for node in chain) for chain in chains),
        width=max(across, default=0.0) - shift,
        layers=len(layers),
    )


def _depths(inputs: Sequence[Sequence[int]]) -> list[int]:
    """The longest way to each node; what doesn't come from the first node stands right above what reads it."""
    depth: list[int] = []
    fed: list[bool] = []
    for node, read in enumerate(inputs):
        depth.append(max((depth[producer] + 1 for producer in read), default=0))
        fed.append(node == 0 or any(fed[producer] for producer in read))
    for node in range(len(depth) - 1, -1, -1):
        readers = [depth[other] for other, read in enumerate(inputs) if node in read]
        if not fed[node] and readers:
            depth[node] = min(readers) - 1
    return depth


def _ordered(layers: list[list[int]], above: dict[int, list[int]], below: dict[int, list[int]]) -> list[list[int]]:
    """The layers with their nodes in the order that has the fewest crossings of those that were tried."""
    best, fewest = layers, _crossings(layers, below)
    current = [list(nodes) for nodes in layers]
    for sweep in range(SWEEPS):
        downward = sweep % 2 == 0
        for level in range(1, len(current)) if downward else range(len(current) - 2, -1, -1):
            fixed = current[level - 1 if downward else level + 1]
            rank = {node: i for i, node in enumerate(fixed)}
            near = above if downward else below
            own = {node: i for i, node in enumerate(current[level])}
            keys = {
                node: sum(rank[n] for n in near[node]) / len(near[node]) if near[node] else float(own[node])
                for node in current[level]
            }
            current[level].sort(key=lambda node: (keys[node], own[node]))
        if (count := _crossings(current, below)) < fewest:
            best, fewest = [list(nodes) for nodes in current], count
    return best


def _crossings(layers: Sequence[Sequence[int]], below: dict[int, list[int]]) -> int:
    count = 0
    for upper, lower in pairwise(layers):
        rank = {node: i for i, node in enumerate(lower)}
        ends = [rank[n] for node in upper for n in sorted(below[node], key=lambda n: rank[n])]
        count += sum(a > b for i, a in enumerate(ends) for b in ends[i + 1 :])
    return count


def _placed(
    layers: Sequence[Sequence[int]], above: dict[int, list[int]], below: dict[int, list[int]], widths: Sequence[float]
) -> list[float]:
    """Places across: each node near the middle of its neighbours, none on another."""
    across = [0.0] * len(widths)
    for nodes in layers:
        _apart(nodes, [float(i) for i in range(len(nodes))], widths, across)
    for turn in range(STRAIGHTENINGS):
        for nodes in layers if turn % 2 == 0 else reversed(layers):
            wanted = []
            for node in nodes:
                near = [*above[node], *below[node]] if turn >= STRAIGHTENINGS // 2 else (above, below)[turn % 2][node]
                # What is computed is in a straight line; edges that pass layers go around it.
                if widths[node] == 1.0 and (nodes_near := [other for other in near if widths[other] == 1.0]):
                    near = nodes_near
                pulls = [_pull(widths[node], widths[other]) for other in near]
                total = sum(across[other] * pull for other, pull in zip(near, pulls, strict=True))
                wanted.append(total / sum(pulls) if near else across[node])
            _apart(nodes, wanted, widths, across)
    return across


def _pull(width: float, other: float) -> float:
    """How much an edge wants to be straight: where it passes layers most."""
    return 1.0 if width == other else 0.02


def _apart(nodes: Sequence[int], wanted: Sequence[float], widths: Sequence[float], across: list[float]) -> None:
    """Put the nodes of a layer as near to where they want to be as their widths and their order allow.

    Pool adjacent violators: nodes that would overlap become a group that stands at the weighted mean of its wishes.
    """
    groups: list[_Group] = []
    for node, wish in zip(nodes, wanted, strict=True):
        weight = STEADY if widths[node] == 1.0 else 1.0
        group = _Group([node], [0.0], wish * weight, weight)
        while groups:
            last = groups[-1]
            offset = last.offsets[-1] + (widths[last.nodes[-1]] + widths[group.nodes[0]]) / 2
            if last.place + offset <= group.place:
                break
            groups.pop()
            group = _Group(
                last.nodes + group.nodes,
                last.offsets + [offset + own for own in group.offsets],
                last.wish + group.wish - offset * group.weight,
                last.weight + group.weight,
            )
        groups.append(group)
    for group in groups:
        for node, offset in zip(group.nodes, group.offsets, strict=True):
            across[node] = group.place + offset


@dataclass(frozen=True)
class _Group:
    """Neighbours that touch: how far each is from the first, and where the first wants to be, weighted."""

    nodes: list[int]
    offsets: list[float]
    wish: float
    weight: float

    @property
    def place(self) -> float:
        return self.wish / self.weight
