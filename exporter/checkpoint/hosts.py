"""Networks of torchvision and timm by name, built without weights: ``torchvision:resnet50``, ``timm:seresnet50``.

Both are extras and imported when one of their networks is asked for. Names come from files, too, so they are checked
before a library sees them: timm's own syntax for downloads contains characters that no name has.
"""

import importlib
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from torch import nn

from attn_export.exporter.artifacts import Normalization
from attn_export.exporter.errors import RuntimeUnavailableError, UsageError, first_line
from attn_export.exporter.system.packages import refuse_absent
from attn_export.models.registry import LARGEST_WIDTH

NAME = re.compile(r"(torchvision|timm):([a-z0-9_]+(?:\.[a-z0-9_]+)?)", re.IGNORECASE)


@dataclass(frozen=True)
class Host:
    """A network of another library; plain values, so it can stand in a file.

    Attributes:
        name: ``torchvision:NAME`` or ``timm:NAME``.
        num_classes: outputs; None for the library's default.
        in_channels: of the input image; torchvision's networks take 3.

    Raises:
        ValueError: a value that no network has.
    """

    name: str
    num_classes: int | None = None
    in_channels: int = 3

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is no network of torchvision or timm, such as torchvision:resnet50")
        for field in ("num_classes", "in_channels"):
            value = getattr(self, field)
            if not (value is None and field == "num_classes") and (
                type(value) is not int or not 1 <= value <= LARGEST_WIDTH
            ):
                raise ValueError(f"{field} is {value!r}; it must be an integer from 1 to {LARGEST_WIDTH}")
        if self.library == "torchvision" and self.in_channels != 3:
            raise ValueError("torchvision's networks take 3 input channels")

    @property
    def library(self) -> str:
        """The package."""
        return self.name.partition(":")[0]


def build_host(host: Host, arguments: Mapping[str, Any] | None = None) -> nn.Module:
    """The network with random weights, in eval mode; nothing is downloaded.

    Raises:
        RuntimeUnavailableError: the library isn't installed.
        UsageError: it has no network of this name, or refuses the arguments.
    """
    library, name = _library(host.library), host.name.partition(":")[2]
    known = _names(library, name)
    if name.partition(".")[0] not in known:
        near = get_close_matches(name, known, n=3)
        suggestion = f"; did you mean {' or '.join(f'{host.library}:{n}' for n in near)}?" if near else ""
        raise UsageError(f"{host.library} has no network called {name!r}{suggestion}", hint="Names are its own.")
    sizes: dict[str, Any] = {} if host.num_classes is None else {"num_classes": host.num_classes}
    if host.library == "timm":
        function, sizes = library.create_model, {**sizes, "pretrained": False, "in_chans": host.in_channels}
    else:
        function, sizes = library.models.get_model, {**sizes, "weights": None}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about random weights, which are meant
            network: nn.Module = function(name, **{**sizes, **(arguments or {})})
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"{host.name} can't be built: {first_line(error)}", hint="Its arguments are those of --kwargs."
        ) from error
    return network.eval()


def input_facts(host: Host, network: nn.Module) -> tuple[tuple[int, int, int] | None, Normalization | None]:
    """(C, H, W) and the normalization of the images that the library trained the network on, as far as it says them.

    Where the channels aren't the library's own, the normalization isn't either.
    """
    if host.library == "timm":
        facts = getattr(network, "pretrained_cfg", None) or {}
        size, mean, std = (facts.get(key) for key in ("input_size", "mean", "std"))
        size = size and tuple(size[1:])
    else:
        facts = _transforms(host)
        side = (getattr(facts, "crop_size", None) or getattr(facts, "resize_size", None) or [None])[-1]
        size = side and (side, side)
        mean, std = getattr(facts, "mean", None), getattr(facts, "std", None)
    shape = (host.in_channels, *size) if size else None
    if not mean or not std or len(mean) != host.in_channels:
        return shape, None
    return shape, Normalization(tuple(map(float, mean)), tuple(map(float, std)))


def relatives(name: str) -> list[str]:
    """The networks of the same family in the library, this one included.

    Raises:
        RuntimeUnavailableError: the library isn't installed.
    """
    library, _, own = name.partition(":")
    package = _library(library)
    if library == "timm":
        module = package.model_entrypoint(own.partition(".")[0]).__module__.rpartition(".")[2]
        return [f"timm:{other}" for other in package.list_models(module=module)]
    family = re.match(r"[a-z]+", own)
    start = family[0] if family else own
    return [f"torchvision:{other}" for other in _names(package, own) if other.startswith(start)]


def _transforms(host: Host) -> Any:
    """How torchvision prepares images for its own weights of this network; None where it has none."""
    weights = _library(host.library).models.get_model_weights(host.name.partition(":")[2])
    best = getattr(weights, "DEFAULT", None)
    return best.transforms() if best is not None else None


def _library(name: str) -> ModuleType:
    refuse_absent(name)
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:
        raise RuntimeUnavailableError(
            f"{name} can't be imported: {first_line(error)}",
            hint="A torchvision that was made for another torch does this. "
            f"pip install 'attn-export[{name}]' takes one that fits.",
        ) from error


def _names(library: ModuleType, name: str) -> list[str]:
    if library.__name__ == "timm":
        return [name.partition(".")[0]] if library.is_model(name) else library.list_models()
    return library.models.list_models(module=library.models)
