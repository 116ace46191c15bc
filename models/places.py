"""Where attention can stand in a network: the maps that its submodules return in one forward pass."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import groupby
from typing import Any

import torch
from torch import nn

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass
class Maps:
    """The maps of a network, by the path of the submodule that returns them, in the order in which these return.

    Attributes:
        channels: of every submodule that returns 4-D tensors: the numbers of channels seen.
        resolution: (H, W) of those with more than one row and column, at their last call.
        other: of a submodule that ran and returned something else: what.
    """

    channels: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    resolution: dict[str, tuple[int, int]] = field(default_factory=dict)
    other: dict[str, str] = field(default_factory=dict)

    def record(self, path: str, output: Any) -> None:
        """Take note of what a submodule returned."""
        if not isinstance(output, torch.Tensor):
            self.other[path] = f"a {type(output).__name__}"
        elif output.dim() != 4:
            self.other[path] = f"a tensor of shape {tuple(output.shape)}"
        else:
            self.channels[path].add(output.shape[1])
            self.resolution.pop(path, None)
            if min(output.shape[2:]) > 1:
                self.resolution[path] = (output.shape[2], output.shape[3])

    def channels_at(self, path: str) -> int:
        """C of the maps that a submodule returns. Raises ValueError: it returns none, or maps of different channels."""
        if path in self.other:
            raise ValueError(f"{path} returns {self.other[path]}; attention takes a map, (N, C, H, W)")
        if path not in self.channels:
            raise ValueError(f"{path} doesn't run in the forward pass of the example input")
        if len(self.channels[path]) > 1:
            seen = ", ".join(map(str, sorted(self.channels[path])))
            raise ValueError(f"{path} returns maps of different channels ({seen}); a block is made for one number")
        return next(iter(self.channels[path]))

    def usable(self, path: str) -> bool:
        """Whether a block can stand behind a submodule."""
        return path in self.resolution and path not in self.other and len(self.channels[path]) == 1


def maps_of(module: nn.Module, input_shape: Sequence[int], named: Sequence[str] = ()) -> Maps:
    """Run a network on noise, in eval mode and without gradients, and record what its submodules return.

    Modes are restored; the ``named`` paths have to be there.

    Raises:
        ValueError: it has no convolution, a path isn't there, or the input doesn't fit.
    """
    paths = dict(module.named_modules())
    if not any(isinstance(part, CONVOLUTIONS) for part in paths.values()):
        raise ValueError(f"this {type(module).__name__} has no convolution, so there are no maps to attend to")
    for path in named:
        if not path or path not in paths:
            near = get_close_matches(path, paths, n=3)
            raise ValueError(
                f"there is no submodule {path!r}" + (f"; did you mean {' or '.join(near)}?" if near else "")
            )
    reference = next(module.parameters())
    modes = {part: part.training for part in paths.values()}
    maps = Maps()
    with ExitStack() as undo, torch.no_grad(), torch.random.fork_rng(devices=[]):
        for part, mode in modes.items():
            undo.callback(setattr, part, "training", mode)
        module.eval()
        for path, part in paths.items():
            if path:
                hook = part.register_forward_hook(lambda *call, path=path: maps.record(path, call[-1]))
                undo.callback(hook.remove)
        for _ in range(2):  # of a network whose channels depend on the input, two show different ones
            example = torch.randn(*input_shape, device=reference.device, dtype=reference.dtype)
            try:
                module(example)
            except (RuntimeError, TypeError, ValueError) as error:
                first = str(error).partition("\n")[0]
                raise ValueError(f"the network doesn't take an input of shape {tuple(input_shape)}: {first}") from error
    return maps


def stages(module: nn.Module, maps: Maps) -> tuple[str, ...]:
    """The submodules that end a stage: a run of layers of one resolution, two convolutions at least."""
    return tuple(end for end, convolutions in _runs(module, maps) if convolutions > 1 and maps.usable(end))


def last(module: nn.Module, maps: Maps) -> tuple[str, ...]:
    """The submodule that returns the last map with more than one place."""
    return tuple(end for end, _ in _runs(module, maps) if maps.usable(end))[-1:]


def _runs(module: nn.Module, maps: Maps) -> list[tuple[str, int]]:
    """The submodule that ends each run of layers of one resolution, and the number of convolutions in the run.

    Layers inside a block end no run: the first convolution of a block with a stride has the resolution of the run
    before. Neither does what holds layers of earlier runs, such as ``features``.
    """
    units = {*blocks(module, maps), *(path for path in maps.resolution if _changes_once(module, path, maps))}
    steps = [path for path in maps.resolution if not any(path.startswith(f"{unit}.") for unit in units)]
    ends = []
    for _, run in groupby(steps, key=lambda path: maps.resolution[path]):
        members = list(run)
        within = [m for m in members if all(s in members for s in steps if s.startswith(f"{m}."))]
        layers = {layer for path in within for layer in module.get_submodule(path).modules()}
        ends += [(path, sum(isinstance(layer, CONVOLUTIONS) for layer in layers)) for path in within[-1:]]
    return ends


def _changes_once(module: nn.Module, path: str, maps: Maps) -> bool:
    """Whether a submodule of a class of its own has one resolution inside, or one at its start and one at its end."""
    inner = {resolution for other, resolution in maps.resolution.items() if f"{other}.".startswith(f"{path}.")}
    return len(inner) <= 2 and not isinstance(module.get_submodule(path), CONTAINERS)


def blocks(module: nn.Module, maps: Maps) -> tuple[str, ...]:
    """The repeated blocks: composite children of containers, of the class that is repeated most.

    Composite is what holds two convolutions and returns a map. A plain `nn.Sequential` of composites is a stage, and
    so is a submodule that holds more blocks of another class than there are of its own.
    """
    composite = {path: part for path, part in _children_of_containers(module) if _is_composite(path, part, maps)}
    counts = Counter(type(part) for part in composite.values())
    candidates = {path: part for path, part in composite.items() if counts[type(part)] > 1}

    def holds_blocks(path: str) -> bool:
        inner = [type(part) for other, part in candidates.items() if other.startswith(f"{path}.")]
        return any(counts[kind] > counts[type(candidates[path])] for kind in inner)

    chosen: list[str] = []
    for path in candidates:
        if not holds_blocks(path) and not any(path.startswith(f"{outer}.") for outer in chosen):
            chosen.append(path)
    return tuple(chosen)


def _children_of_containers(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return [
        (f"{path}.{name}" if path else name, child)
        for path, part in module.named_modules()
        if isinstance(part, CONTAINERS)
        for name, child in part.named_children()
    ]


def _is_composite(path: str, part: nn.Module, maps: Maps) -> bool:
    convolutions = [inner for inner in part.modules() if isinstance(inner, CONVOLUTIONS)]
    is_stage = isinstance(part, CONTAINERS) and any(
        sum(isinstance(inner, CONVOLUTIONS) for inner in child.modules()) > 1 for child in part.children()
    )
    return len(convolutions) > 1 and not is_stage and maps.usable(path)
