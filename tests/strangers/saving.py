"""The usual ways of saving a network."""

import argparse
import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

Save = Callable[[nn.Module, tuple[torch.Tensor, ...], Path], Any]
Weights = dict[str, torch.Tensor]


def content(make: Callable[[nn.Module], Any], **options: Any) -> Save:
    """What is saved of a network by torch.save."""
    return lambda network, example, path: torch.save(make(network), path, **options)


def prefixed(prefix: str, weights: Weights) -> Weights:
    return {prefix + name: tensor for name, tensor in weights.items()}


def weights_with(**others: Any) -> Callable[[str], Save]:
    """Weights under a name, and other entries beside them."""
    return lambda name: content(lambda network: {name: network.state_dict(), "epoch": 7, **others})


def with_optimizer(network: nn.Module) -> Any:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 10)
    return {
        "model": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": schedule.state_dict(),
        "args": argparse.Namespace(lr=0.1, data=Path("images")),
        "best": np.float64(0.93),
    }


def averaged(network: nn.Module) -> nn.Module:
    """The network after a training in which its average is kept beside it: what is exported."""
    other = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.5)
    return other


def lightning(network: nn.Module) -> Any:
    weights = {**prefixed("model.", network.state_dict()), "criterion.weight": torch.ones(5)}
    return {
        "state_dict": weights,
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "2.4.0",
        "optimizer_states": [{"state": {}, "param_groups": []}],
        "hyper_parameters": {"lr": 0.1},
    }


def half(network: nn.Module) -> Weights:
    return {n: t.half() if t.is_floating_point() else t for n, t in network.state_dict().items()}


def traced(network: nn.Module, example: tuple[torch.Tensor, ...], path: Path) -> None:
    torch.jit.trace(network, example).save(path)


def scripted(network: nn.Module, example: tuple[torch.Tensor, ...], path: Path) -> None:
    torch.jit.script(network).save(path)


def program(network: nn.Module, example: tuple[torch.Tensor, ...], path: Path) -> None:
    torch.export.save(torch.export.export(network, example), path)


WHOLE: dict[str, Save] = {
    "module": content(lambda network: network),
    "module, DataParallel": content(nn.DataParallel),
    "module, AveragedModel": content(torch.optim.swa_utils.AveragedModel),
    "module, torch.compile": content(torch.compile),
    "module, half": content(lambda network: copy.deepcopy(network).half()),
    "modules: model, ema": content(lambda network: {"model": averaged(network), "ema": network, "epoch": 3}),
}
# A script's classes are in `__main__`.
FROM_A_SCRIPT: dict[str, Save] = {"module, from a script": content(lambda network: network)}
WEIGHTS: dict[str, Save] = {
    "state dict": content(lambda network: network.state_dict()),
    "state dict, format before torch 1.6": content(
        lambda network: network.state_dict(), _use_new_zipfile_serialization=False
    ),
    "state_dict": weights_with(arch="net", best_acc1=torch.tensor(0.9))("state_dict"),
    "net": weights_with(acc=93.1)("net"),
    "model_state_dict": weights_with(optimizer_state_dict={"state": {}}, loss=0.1)("model_state_dict"),
    "model and optimizer": content(with_optimizer),
    "state_dict, state_dict_ema": content(
        lambda network: {"state_dict": averaged(network).state_dict(), "state_dict_ema": network.state_dict()}
    ),
    "DataParallel, DDP": content(lambda network: prefixed("module.", network.state_dict())),
    "torch.compile": content(lambda network: prefixed("_orig_mod.", network.state_dict())),
    "AveragedModel": content(lambda network: torch.optim.swa_utils.AveragedModel(network).state_dict()),
    "backbone.": content(lambda network: prefixed("backbone.", network.state_dict())),
    "a name of one's own": weights_with(loss=torch.ones(3))("my_net"),
    "list": content(lambda network: [network.state_dict(), {"lr": 0.1}]),
    "Lightning": content(lightning),
    "half": content(half),
    "arrays": content(lambda network: {name: tensor.numpy() for name, tensor in network.state_dict().items()}),
    "pickle.dump": lambda network, example, path: path.write_bytes(pickle.dumps(network.state_dict())),
    "safetensors": lambda network, example, path: save_file(network.state_dict(), path),
}
SCRIPTS: dict[str, Save] = {"TorchScript, traced": traced, "TorchScript, scripted": scripted}
PROGRAMS: dict[str, Save] = {"torch.export": program}
WAYS = {**WHOLE, **FROM_A_SCRIPT, **WEIGHTS, **SCRIPTS, **PROGRAMS}
ENDINGS = {"safetensors": ".safetensors", "torch.export": ".pt2"}
