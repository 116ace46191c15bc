"""Weights that pruning and weight normalization keep in parts, put together as their networks do it."""

import torch

from attn_export.exporter.checkpoint.state_dict import StateDict

ORIGINAL = ".parametrizations.weight.original"
# Ends of two tensors' names, and of the one that they stand for.
PAIRS = (("_orig", "_mask", ""), (f"{ORIGINAL}0", f"{ORIGINAL}1", ".weight"), ("weight_g", "weight_v", "weight"))
NOTE = "weights that pruning or weight normalization keeps in parts were put together"


def folded(weights: StateDict) -> tuple[StateDict, tuple[str, ...]]:
    """The weights with one tensor for each layer, and a note where there was something to do.

    ``weight_orig`` and ``weight_mask`` are those of torch.nn.utils.prune. ``weight_g`` and ``weight_v``, or
    ``original0`` and ``original1``, are a magnitude and a direction (Salimans and Kingma, "Weight Normalization", 2016,
    https://arxiv.org/abs/1602.07868, equation 2).
    """
    found = dict(weights)
    for first, second, whole in PAIRS:
        for name in [name for name in weights if name.endswith(first)]:
            stem = name.removesuffix(first)
            parts = weights[name], weights.get(stem + second)
            if parts[1] is not None and _fit(parts[0], parts[1]):
                del found[name], found[stem + second]
                found[stem + whole] = parts[0] * parts[1] if first == "_orig" else _scaled(parts[0], parts[1])
    return found, (NOTE,) if len(found) < len(weights) else ()


def _fit(part: torch.Tensor, whole: torch.Tensor) -> bool:
    """Whether both are ordinary, and the first has all sizes of the second, or 1."""
    return (
        part.dim() == whole.dim()
        and all(a in (1, b) for a, b in zip(part.shape, whole.shape, strict=True))
        and all(t.is_floating_point() and t.layout == torch.strided and not t.is_meta for t in (part, whole))
    )


def _scaled(magnitude: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    axes = [axis for axis, size in enumerate(magnitude.shape) if size == 1]
    return direction * (magnitude / torch.linalg.vector_norm(direction, dim=axes or None, keepdim=True))
