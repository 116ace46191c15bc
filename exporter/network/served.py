"""Networks with their preprocessing and postprocessing: pixels in, probabilities out.

Both are part of the module, so that all that follows (reference outputs, capture, proof, timing) treats them like any
other layer. The module's class, parameters and submodules stay the same; so do their paths.
"""

from collections import OrderedDict
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from attn_export.exporter.artifacts import BGR, NCHW, NHWC, RGB, Input, LoadedModel, Postprocessing, Preprocessing
from attn_export.exporter.errors import InputError
from attn_export.exporter.network.batches import feeds_for
from attn_export.exporter.network.call import call
from attn_export.exporter.network.observation import evaluating

IMAGE_RANK, WHITE = 4, 255.0
COLOURS = 3
KNOWN = f"Known are {NCHW} and {NHWC}, {RGB} and {BGR}."
HOOKS = ("_forward_pre_hooks", "_forward_hooks")


def with_preprocessing(model: LoadedModel, preprocessing: Preprocessing) -> LoadedModel:
    """The network that takes pixels: uint8 (N, C, H, W) or (N, H, W, C).

    Raises:
        InputError: it takes something else than one image.
        UsageError: the normalization is for other channels.
    """
    taken = _only_image(model)
    channels = taken.shape[1]
    if preprocessing.layout not in (NCHW, NHWC) or preprocessing.order not in (RGB, BGR):
        raise InputError(f"pixels of {preprocessing.layout}, {preprocessing.order} are unknown", hint=KNOWN)
    preprocessing = replace(preprocessing, normalization=preprocessing.normalization.for_channels(channels))
    if min(preprocessing.normalization.std) <= 0:
        raise InputError(f"std {preprocessing.normalization.std}: all are above 0", hint="Pixels are divided by it.")
    if preprocessing.order == BGR and channels != COLOURS:
        raise InputError(f"{model.name} takes {channels} channels, which have no order of colours", hint="Omit :bgr.")
    module = _copied(model.module)
    module.register_forward_pre_hook(_before(preprocessing))
    n, c, height, width = taken.shape
    shape = (n, height, width, c) if preprocessing.layout == NHWC else taken.shape
    pixels = Input(taken.name, shape, "uint8", range=(0, WHITE), layout=preprocessing.layout)
    return replace(model, module=module, inputs=(pixels,), normalization=None, preprocessing=preprocessing)


def with_postprocessing(model: LoadedModel, postprocessing: Postprocessing) -> LoadedModel:
    """The network that returns probabilities: (N, classes), or of the top classes with their indices.

    Raises:
        InputError: it returns no logits of classes, or fewer than the top ones.
    """
    classes = classes_of(model)
    if postprocessing.top > classes:
        raise InputError(
            f"{model.name} knows {classes} classes, and the top {postprocessing.top} are asked for",
            hint=f"Ask for at most {classes}: --output top={classes}",
        )
    module = _copied(model.module)
    module.register_forward_hook(_after(postprocessing))
    return replace(model, module=module, postprocessing=replace(postprocessing, classes=classes))


def classes_of(model: LoadedModel) -> int:
    """The number of classes that a network knows, found by running it on one image.

    Raises:
        InputError: it returns something else than logits (N, classes).
    """
    with evaluating(model.module):
        returned = call(model.module, feeds_for(model.inputs)[0])
    if not isinstance(returned, torch.Tensor) or returned.ndim != 2 or not returned.is_floating_point():
        shape = tuple(returned.shape) if isinstance(returned, torch.Tensor) else type(returned).__name__
        raise InputError(
            f"{model.name} returns {shape}, and probabilities are for classifiers, which return (N, classes)",
            hint="Leave --output and --labels out.",
        )
    return int(returned.shape[1])


def _only_image(model: LoadedModel) -> Input:
    (taken, *others) = model.inputs
    if others or len(taken.shape) != IMAGE_RANK or taken.dtype != "float32" or taken.shape[1] not in (1, COLOURS):
        listed = ", ".join(f"{own.name} {own.dtype} {own.shape}" for own in model.inputs)
        raise InputError(
            f"{model.name} takes {listed}, and pixels are for networks that take one image",
            hint="Expected is one float32 input (N, 3, H, W) or (N, 1, H, W). Leave --input-image out.",
        )
    return taken


def _copied(module: nn.Module) -> nn.Module:
    """The same module, with hooks of its own."""
    found = copy(module)
    for name in HOOKS:
        found.__dict__[name] = OrderedDict(found.__dict__[name])
    return found


def _before(preprocessing: Preprocessing) -> Callable[..., Any]:
    """Normalize, then bring the channels in order: so the order folds into the first convolution's weights."""
    mean = [WHITE * number for number in preprocessing.normalization.mean]
    factor = [1 / (WHITE * number) for number in preprocessing.normalization.std]
    swapped = preprocessing.order == BGR
    if swapped:
        mean, factor = mean[::-1], factor[::-1]

    def normalize(_: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        image = args[0].float()  # first: TensorRT takes uint8 into nothing but a Cast
        if preprocessing.layout == NHWC:
            # Contiguous: of a channels-last tensor PyTorch's exporter writes strides, as Gathers.
            image = image.permute(0, 3, 1, 2).contiguous()
        image = (image - _of_channels(mean)) * _of_channels(factor)
        return (image.flip(1) if swapped else image,)

    return normalize


def _of_channels(numbers: list[float]) -> torch.Tensor:
    return torch.tensor(numbers).reshape(1, -1, 1, 1)


def _after(postprocessing: Postprocessing) -> Callable[..., Any]:
    def decide(_: nn.Module, __: Any, logits: torch.Tensor) -> Any:
        probabilities = logits.softmax(1)
        if not postprocessing.top:
            return probabilities
        scores, classes = probabilities.topk(postprocessing.top, 1)
        return {"scores": scores, "classes": classes}

    return decide
