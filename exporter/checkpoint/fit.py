"""Which network a state dict belongs to, and with which arguments it was built."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from attn_export.exporter.checkpoint.state_dict import StateDict
from attn_export.exporter.errors import StateDictMismatchError, UsageError
from attn_export.models.registry import LARGEST_WIDTH, Architecture, architecture, names, skeleton

Shapes = dict[str, tuple[int, ...]]

# torch added this counter later; inference never reads it.
OPTIONAL = "num_batches_tracked"
# Below this share of common names a suggestion would mislead more than it helps.
PLAUSIBLE = 0.3
SHOWN = 4


@cache
def shapes_of(arch: Architecture) -> Shapes:
    """Name and shape of every tensor in the architecture's state dict."""
    return {name: tuple(tensor.shape) for name, tensor in skeleton(arch).state_dict().items()}


def infer_arguments(name: str, weights: StateDict) -> Architecture:
    """The architecture called ``name`` with classes, channels, reduction and kernel as the weights' shapes say.

    What the shapes don't say keeps its default. Whether the weights fit is for `check` to say.

    Raises:
        UsageError: there is no architecture of this name.
    """
    try:
        arch = architecture(name)
    except ValueError as error:
        raise UsageError(str(error), hint="`attn-export models` lists the names for --arch.") from error
    expected = shapes_of(arch)
    shapes = {
        n: tuple(t.shape)
        for n, t in weights.items()
        if n in expected and t.dim() == len(expected[n]) and _is_plausible(t.shape)
    }
    convolutions = [n for n in expected if len(expected[n]) == 4]
    matrices = [n for n in expected if len(expected[n]) == 2]
    if matrices and matrices[-1] in shapes:
        arch = replace(arch, num_classes=shapes[matrices[-1]][0])
    if convolutions[0] in shapes:
        arch = replace(arch, in_channels=shapes[convolutions[0]][1])
    for n, shape in shapes.items():
        if n.endswith("SpatialGate.conv1.weight") and shape[-1] in (3, 7):
            arch = replace(arch, kernel_size=shape[-1])
    # The widest gate rounds the least, so it tells the reduction best.
    squeezes = [s for n, s in shapes.items() if n.endswith((".fc.0.weight", ".fc1.weight"))]
    if squeezes:
        hidden, channels = max(squeezes, key=lambda s: s[1])[:2]
        guesses = [arch] + [replace(arch, reduction=r) for r in sorted({max(1, channels // hidden), 2, 4, 8, 16, 32})]
        arch = min(guesses, key=lambda guess: len(_misshapen(guess, weights)))
    return arch


def check(arch: Architecture, weights: StateDict) -> None:
    """Every tensor that the architecture has is in ``weights``, with its shape, and nothing else is.

    Raises:
        StateDictMismatchError: names what is missing, unexpected or of another shape, and the nearest architecture.
    """
    expected = shapes_of(arch)
    missing = [n for n in expected if n not in weights and not n.endswith(OPTIONAL)]
    unexpected = [n for n in weights if n not in expected and not n.endswith(OPTIONAL)]
    misshapen = _misshapen(arch, weights)
    if not (missing or unexpected or misshapen):
        return
    best = nearest(weights)
    differences = [
        f"{len(group)} {word}: {', '.join(group[:SHOWN])}{', …' if len(group) > SHOWN else ''}"
        for word, group in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
        if group
    ]
    if best is None:
        hint = "The names resemble no network of the zoo. For a network of your own: `export(module, ...)` from Python."
    elif best == arch.name:
        hint = f"{arch.name} is the nearest architecture all the same; were these weights changed after training?"
    else:
        hint = f"The nearest architecture is {best}: try --arch {best}."
    raise StateDictMismatchError(
        f"the weights don't fit {arch.name}. " + "; ".join(differences),
        missing=missing,
        unexpected=unexpected,
        misshapen=misshapen,
        nearest=best,
        hint=hint,
    )


def nearest(weights: StateDict) -> str | None:
    """The architecture that shares the largest part of its names with the weights, or None if none is near."""

    def likeness(name: str) -> tuple[float, int]:
        expected = {n: s for n, s in shapes_of(architecture(name)).items() if not n.endswith(OPTIONAL)}
        own = {n: tuple(t.shape) for n, t in weights.items() if not n.endswith(OPTIONAL)}
        common = expected.keys() & own.keys()
        return len(common) / len(expected.keys() | own.keys()), sum(expected[n] == own[n] for n in common)

    best = max(names(), key=likeness)
    return best if likeness(best)[0] >= PLAUSIBLE else None


def _is_plausible(shape: Sequence[int]) -> bool:
    return all(0 < n <= LARGEST_WIDTH for n in shape)


def _misshapen(arch: Architecture, weights: StateDict) -> list[str]:
    expected = shapes_of(arch)
    wrong = [
        f"{n} is {tuple(t.shape)}, expected {expected[n]}"
        for n, t in weights.items()
        if n in expected and tuple(t.shape) != expected[n]
    ]
    integers = [
        f"{n} holds integers, expected floating point"
        for n, t in weights.items()
        if n in expected and not n.endswith(OPTIONAL) and not t.is_floating_point()
    ]
    return wrong + integers
